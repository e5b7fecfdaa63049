"""The scheduler's end of the work queue: at least once, under one id, whatever the server goes through."""

from __future__ import annotations

import pytest

from services.adapters.bus import PayloadTooLarge
from services.adapters.nats import jetstream, publisher
from services.adapters.nats.topology import QueueLimits, ensure_topology
from services.local.nats import EmbeddedNats
from tests.adapters.nats.collecting import linked, publishing, pulling


async def test_publications_are_confirmed_with_their_sequences(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        first = (await ensure_topology(link.bus, ["default"])).first_sequence
        for number in range(500):
            assert published.publisher.publish("default", f"id-{number}", b"task")
        confirmed = await published.confirmed.count(500)
        assert confirmed == [(f"id-{number}", first + number, False) for number in range(500)]
        assert published.publisher.unconfirmed == 0
        state = await published.publisher.stream_state()
        assert (state.first_sequence, state.last_sequence, state.messages) == (first, first + 499, 500)
        assert await published.publisher.has_sequence(first + 499)
        assert not await published.publisher.has_sequence(first + 500)
        assert (await published.publisher.consumer_state("default")).pending == 500


async def test_the_same_message_id_is_stored_once(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        first = (await ensure_topology(link.bus, ["default"])).first_sequence
        published.publisher.publish("default", "same", b"1")
        published.publisher.publish("default", "same", b"still unconfirmed: left as it is")
        await published.confirmed.count(1)
        published.publisher.publish("default", "same", b"2")
        assert await published.confirmed.count(2) == [("same", first, False), ("same", first, True)]
        assert (await published.publisher.stream_state()).messages == 1


async def test_what_was_unconfirmed_when_the_server_died_is_sent_again(
    nats_server: EmbeddedNats, nats_url: str
) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, ["default"])
        for number in range(200):
            published.publisher.publish("default", f"before-{number}", b"task")
        await published.confirmed.count(1)
        await nats_server.kill()
        await link.lost.first()
        for number in range(200):
            published.publisher.publish("default", f"after-{number}", b"task")
        await nats_server.start()
        confirmed = await published.confirmed.count(400)
        assert len({message_id for message_id, _, _ in confirmed}) == 400
        assert (await published.publisher.stream_state()).messages == 400


async def test_a_wiped_store_is_made_again_and_told(nats_server: EmbeddedNats, nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        before = await ensure_topology(link.bus, ["default"])
        published.publisher.publish("default", "lost with the store", b"task")
        await published.confirmed.count(1)
        await nats_server.kill()
        nats_server.wipe()
        await nats_server.start()
        await link.back.first()
        published.publisher.publish("default", "after the wipe", b"task")
        await published.missing.first()
        message_id, sequence, duplicate = (await published.confirmed.count(2))[1]
        state = await published.publisher.stream_state()
        assert (message_id, sequence, duplicate) == ("after the wipe", state.first_sequence, False)
        assert state.created_at > before.created_at
        assert state.first_sequence > before.first_sequence + 1000  # no sequence ever means two tasks
        assert (await published.publisher.consumer_state("default")).pending == 1


async def test_a_lost_confirmation_is_asked_for_again(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "REPEAT_AFTER_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "SWEEP_SECONDS", 0.05)
    async with linked(nats_url) as link, publishing(link.bus) as published:
        first = (await ensure_topology(link.bus, ["default"])).first_sequence
        answer = link.bus.publish_now
        dropped: list[str] = []

        def drop_the_first(subject: str, data: bytes, reply: str, headers: bytes = b"") -> bool:
            if not dropped:
                dropped.append(reply)
                return answer(subject, data, "", headers)  # stored, but nobody hears it
            return answer(subject, data, reply, headers)

        monkeypatch.setattr(link.bus, "publish_now", drop_the_first)
        published.publisher.publish("default", "once", b"task")
        assert await published.confirmed.first() == ("once", first, True)
        assert dropped


async def test_a_full_stream_is_reported_and_filled_when_there_is_room(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "REPEAT_AFTER_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "SWEEP_SECONDS", 0.05)
    limits = QueueLimits(stream_bytes_max=1 << 20)
    async with linked(nats_url) as link, publishing(link.bus, limits) as published:
        await ensure_topology(link.bus, ["default"], limits)
        for number in range(6):
            published.publisher.publish("default", f"id-{number}", bytes(300_000))
        await published.confirmed.count(3)
        assert published.publisher.unconfirmed == 3
        assert published.failed.items == []
        async with pulling(link.bus, ["default"], 6, limits, acks=True):
            await published.confirmed.count(6)
        assert published.publisher.refused == ""


async def test_a_withdrawn_message_is_not_repeated(nats_server: EmbeddedNats, nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, ["default"])
        await nats_server.kill()
        await link.lost.first()
        published.publisher.publish("default", "withdrawn", b"task")
        published.publisher.publish("default", "kept", b"task")
        assert published.publisher.withdraw("withdrawn")
        assert not published.publisher.withdraw("withdrawn")
        await nats_server.start()
        assert [message_id for message_id, _, _ in await published.confirmed.count(1)] == ["kept"]
        assert (await published.publisher.stream_state()).messages == 1


async def test_too_much_unconfirmed_is_refused(
    nats_server: EmbeddedNats, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "UNCONFIRMED_MAX", 2)
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await nats_server.kill()
        await link.lost.first()
        taken = [published.publisher.publish("default", f"id-{number}", b"") for number in range(3)]
        assert taken == [True, True, False]
        await nats_server.start()
        await published.confirmed.count(2)
        assert published.publisher.publish("default", "id-2", b"")


async def test_an_oversized_task_is_refused_by_name(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        with pytest.raises(PayloadTooLarge, match="task big: 524289 bytes; at most 524288"):
            published.publisher.publish("default", "big", bytes(512 * 1024 + 1))
        with pytest.raises(ValueError, match="malformed message id"):
            published.publisher.publish("default", "a\r\nNats-Rollup: all", b"")
        assert published.publisher.unconfirmed == 0


async def test_a_deleted_stream_is_found_missing_while_publishing(nats_url: str) -> None:
    async with linked(nats_url) as link, publishing(link.bus) as published:
        await ensure_topology(link.bus, ["default"])
        await jetstream.call(link.bus, "STREAM.DELETE.WC_TASKS")
        for number in range(50):
            published.publisher.publish("default", f"id-{number}", b"task")
        await published.confirmed.count(50)
        assert published.missing.items == [True]
