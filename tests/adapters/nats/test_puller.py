"""A runner's end of the work queue: no more than the slots, no orphan pulls, alive after whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.adapters.nats import jetstream
from services.adapters.nats.connection import NatsBus
from services.adapters.nats.topology import QueueLimits, ensure_topology
from services.local.nats import EmbeddedNats
from tests.adapters.nats.collecting import Published, linked, publishing, pulling
from tests.support.collecting import WAIT_SECONDS

QUICK = QueueLimits(ack_wait_seconds=0.5)


def _publish(published: Published, count: int, queue: str = "default") -> None:
    for number in range(count):
        published.publisher.publish(queue, f"{queue}-{number}", f"{queue}-{number}".encode())


async def _settled(published: Published, queues: Sequence[str] = ("default",)) -> None:
    """Returns when the server has taken all acknowledgements."""
    async with asyncio.timeout(WAIT_SECONDS):
        for queue in queues:
            while (await published.publisher.consumer_state(queue)).unacknowledged:
                pass


async def test_a_delivery_says_what_it_is(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        base = (await ensure_topology(link.bus, ["default"])).first_sequence
        _publish(published, 2)
        async with pulling(link.bus, ["default"], 4) as pulled:
            first, second = await pulled.deliveries.count(2)
            assert (first.data, first.subject, first.queue) == (b"default-0", "wc.tasks.default", "default")
            assert (first.sequence, second.sequence) == (base, base + 1)
            assert first.delivered_count == 1
            created_at = (await published.publisher.stream_state()).created_at
            assert created_at <= first.timestamp < created_at + 60_000_000
            first.ack()
            first.nak()
            second.term()
            assert first.settled
            await _settled(published)
            assert (await published.publisher.stream_state()).messages == 0


async def test_what_is_given_back_or_not_acknowledged_comes_again(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus, QUICK) as published:
        base = (await ensure_topology(link.bus, ["default"], QUICK)).first_sequence
        _publish(published, 1)
        async with pulling(link.bus, ["default"], 2, QUICK) as pulled:
            (await pulled.deliveries.first()).nak()
            second = (await pulled.deliveries.count(2))[1]
            assert second.delivered_count == 2
            third = (await pulled.deliveries.count(3))[2]  # after AckWait
            assert (third.delivered_count, third.sequence) == (3, base)
            third.ack()
            second.release()
            await _settled(published)


async def test_progress_starts_the_acknowledgement_wait_anew(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus, QUICK) as published:
        await ensure_topology(link.bus, ["default"], QUICK)
        _publish(published, 1)
        async with pulling(link.bus, ["default"], 2, QUICK) as pulled:
            delivery = await pulled.deliveries.first()
            for _ in range(10):
                delivery.in_progress()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), 0.1)
            assert len(pulled.deliveries.items) == 1
            delivery.ack()
            await _settled(published)


async def test_never_more_in_hand_than_slots(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        base = (await ensure_topology(link.bus, ["default"])).first_sequence
        _publish(published, 300)
        async with pulling(link.bus, ["default"], 7, acks=True) as pulled:
            deliveries = await pulled.deliveries.count(300)
            assert pulled.most_in_hand <= 7
            assert {delivery.delivered_count for delivery in deliveries} == {1}
            assert [delivery.sequence for delivery in deliveries] == list(range(base, base + 300))


async def test_a_full_runner_takes_nothing_until_a_slot_is_free(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, ["default"])
        _publish(published, 5)
        async with pulling(link.bus, ["default"], 2) as pulled:
            first, second = await pulled.deliveries.count(2)
            await link.bus.flush()
            assert (await published.publisher.consumer_state("default")).waiting == 0
            assert pulled.puller.free_slots == 0
            first.begin()
            first.release()  # done, though not yet acknowledged
            assert len(await pulled.deliveries.count(3)) == 3
            second.ack()
            assert len(await pulled.deliveries.count(4)) == 4
            assert pulled.puller.free_slots == 0


async def test_a_task_may_take_several_slots(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, ["default"])
        async with pulling(link.bus, ["default"], 1) as pulled:
            pulled.puller.resize(3)
            _publish(published, 1)
            (heavy,) = await pulled.deliveries.count(1)
            heavy.take(3)
            assert pulled.puller.free_slots == 0
            heavy.ack()
            assert pulled.puller.free_slots == 3


@pytest.mark.parametrize("slots", [1, 2, 16])
async def test_queues_share_the_slots(nats_url: str, slots: int) -> None:
    queues = ["busy", "rare", "idle"]
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, queues)
        async with pulling(link.bus, queues, slots, acks=True) as pulled:
            _publish(published, 100, "busy")
            await pulled.deliveries.count(50)
            _publish(published, 3, "rare")
            await pulled.deliveries.count(103)
            assert pulled.most_in_hand <= slots
            _publish(published, 1, "idle")
            await pulled.deliveries.count(104)
            await _settled(published, queues)


async def test_a_drained_puller_leaves_no_orphan_pull(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, ["default"])
        async with pulling(link.bus, ["default"], 8) as pulled:
            await _waiting(published, 1)
            assert await pulled.puller.drain() == []
            assert (await published.publisher.consumer_state("default")).waiting == 0
        async with pulling(link.bus, ["default"], 8, acks=True) as pulled:
            _publish(published, 20)
            assert {delivery.delivered_count for delivery in await pulled.deliveries.count(20)} == {1}


async def test_a_drain_gives_back_what_is_not_begun(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        base = (await ensure_topology(link.bus, ["default"])).first_sequence
        _publish(published, 4)
        async with pulling(link.bus, ["default"], 4) as pulled:
            deliveries = await pulled.deliveries.count(4)
            deliveries[1].begin()
            assert await pulled.puller.drain() == [deliveries[1]]
            assert [delivery.settled for delivery in deliveries] == [True, False, True, True]
            async with pulling(link.bus, ["default"], 4, acks=True) as other:
                again = await other.deliveries.count(3)
                assert sorted(delivery.sequence for delivery in again) == [base, base + 2, base + 3]
            deliveries[1].ack()
            await _settled(published)
            assert (await published.publisher.stream_state()).messages == 0


async def _waiting(published: Published, wanted: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while (await published.publisher.consumer_state("default")).waiting != wanted:
            pass


async def test_a_killed_server_delivers_at_once_when_it_is_back(
    nats_server: EmbeddedNats, nats_url: str
) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, ["default"])
        async with pulling(link.bus, ["default"], 10, acks=True) as pulled:
            await _waiting(published, 1)
            await nats_server.kill()
            await link.lost.first()
            _publish(published, 10)
            await nats_server.start()
            async with asyncio.timeout(4.0):  # far below the 30 s that a pull waits
                await pulled.deliveries.count(10)
            await _settled(published)
            await _waiting(published, 1)


async def test_a_wiped_store_is_found_and_made_again(nats_server: EmbeddedNats, nats_url: str) -> None:
    async with linked(nats_url) as link:
        before = await ensure_topology(link.bus, ["default"])
        async with pulling(link.bus, ["default"], 10, acks=True) as pulled:
            await nats_server.kill()
            nats_server.wipe()
            await nats_server.start()
            await pulled.missing.first()
            after = jetstream.stream_state(await jetstream.call(link.bus, "STREAM.INFO.WC_TASKS"))
            assert after.created_at > before.created_at
            async with publishing(link.bus) as published:
                _publish(published, 3)
                await pulled.deliveries.count(3)


async def test_an_acknowledgement_from_before_a_wipe_deletes_nothing(
    nats_server: EmbeddedNats, nats_url: str
) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, ["default"])
        async with pulling(link.bus, ["default"], 10) as pulled:
            _publish(published, 3)
            before = list(await pulled.deliveries.count(3))
            await nats_server.kill()
            nats_server.wipe()
            await nats_server.start()
            await pulled.missing.first()
            for number in range(3):
                published.publisher.publish("default", f"new-{number}", b"new")
            await pulled.deliveries.count(6)
            for delivery in before:
                delivery.ack()
            await link.bus.flush()
            assert (await published.publisher.consumer_state("default")).unacknowledged == 3
            assert (await published.publisher.stream_state()).messages == 3


@pytest.mark.parametrize("queues", [["default"], ["default", "other"]])
async def test_a_deleted_consumer_is_made_again(nats_url: str, queues: list[str]) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, queues)
        async with pulling(link.bus, queues, 10, acks=True) as pulled:
            _publish(published, 1)
            await pulled.deliveries.count(1)
            await jetstream.call(link.bus, "CONSUMER.DELETE.WC_TASKS.q_default")
            for number in range(10):
                published.publisher.publish("default", f"again-{number}", b"")
            await pulled.deliveries.count(11)


async def test_pulls_are_far_fewer_than_tasks(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, ["default"])
        _publish(published, 1000)
        await published.confirmed.count(1000)
        pulls = _counting(link.bus, monkeypatch)
        async with pulling(link.bus, ["default"], 64, acks=True) as pulled:
            await pulled.deliveries.count(1000)
            assert len(pulls) < 100


def _counting(bus: NatsBus, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    send, pulls = bus.publish_now, []

    def count(subject: str, data: bytes, reply: str, headers: bytes = b"") -> bool:
        if "MSG.NEXT" in subject:
            pulls.append(subject)
        return send(subject, data, reply, headers)

    monkeypatch.setattr(bus, "publish_now", count)
    return pulls
