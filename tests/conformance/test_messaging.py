"""One suite for every implementation of `adapters.bus`: the real server, and the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.adapters.bus import (
    MESSAGE_BYTES_MAX,
    BusError,
    Disconnected,
    NoResponders,
    PayloadTooLarge,
    RequestTimeout,
)
from services.local.nats import EmbeddedNats
from tests.conformance.messaging import MemoryMessaging, Messaging, NatsMessaging, Published
from tests.support.collecting import WAIT_SECONDS, Collected
from tests.support.servers import empty_store


@pytest_asyncio.fixture(params=["memory", "nats"], loop_scope="session")
async def messaging(request: pytest.FixtureRequest, nats_server: EmbeddedNats) -> AsyncIterator[Messaging]:
    """The implementation under test."""
    made: Messaging = MemoryMessaging()
    if request.param == "nats":
        await empty_store(nats_server)
        made = NatsMessaging(nats_server)
    yield made
    await made.close()


def _publish(published: Published, count: int, queue: str = "default", prefix: str = "task") -> None:
    for number in range(count):
        assert published.publisher.publish(queue, f"{queue}-{prefix}-{number}", f"{number}".encode())


async def _empty(published: Published) -> None:
    """Returns when everything is acknowledged."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (await published.publisher.stream_state()).messages:
            pass


# The bus


async def test_messages_reach_everybody_once_and_one_of_a_group(messaging: Messaging) -> None:
    bus, other = await messaging.bus(), await messaging.bus()
    heard: Collected[tuple[str, bytes, str, str]] = Collected()
    for name, on, queue in (("a", bus, ""), ("b", other, ""), ("c", bus, "group"), ("d", other, "group")):

        def hear(data: bytes, reply: str, subject: str, name: str = name) -> None:
            heard.add((name, data, reply, subject))

        on.subscribe("wc.owner.7.*", hear, queue)
    await bus.flush()
    await other.flush()
    bus.publish("wc.owner.8.result", b"not ours")
    bus.publish("wc.owner.7.deeper.result", b"not ours")
    bus.publish("wc.owner.7.result", b"data", "wc.reply")
    items = await heard.count(3)
    await bus.flush()
    await other.flush()
    names = sorted(name for name, *_ in items)
    assert names in (["a", "b", "c"], ["a", "b", "d"])
    assert {item[1:] for item in items} == {(b"data", "wc.reply", "wc.owner.7.result")}


async def test_messages_between_two_buses_stay_in_order(messaging: Messaging) -> None:
    bus, other = await messaging.bus(), await messaging.bus()
    heard: Collected[bytes] = Collected()
    other.subscribe("wc.>", lambda data, reply, subject: heard.add(data))
    await other.flush()
    for number in range(1000):
        bus.publish(f"wc.beat.{number % 7}", b"%d" % number)
    assert await heard.count(1000) == [b"%d" % number for number in range(1000)]


async def test_nothing_comes_after_unsubscribing(messaging: Messaging) -> None:
    bus = await messaging.bus()
    heard: Collected[str] = Collected()
    first = bus.subscribe("wc.start", lambda data, reply, subject: heard.add("first"))
    bus.subscribe("wc.start", lambda data, reply, subject: heard.add("second"))
    bus.publish("wc.start", b"")
    first.unsubscribe()
    first.unsubscribe()
    bus.publish("wc.start", b"")
    await heard.until(lambda items: items.count("second") == 2)
    assert "first" not in heard.items


async def test_a_callback_that_raises_stops_nothing(messaging: Messaging) -> None:
    bus = await messaging.bus()
    heard: Collected[bytes] = Collected()

    def hear(data: bytes, reply: str, subject: str) -> None:
        heard.add(data)
        raise RuntimeError(data)

    bus.subscribe("wc.start", hear)
    bus.publish("wc.start", b"1")
    bus.publish("wc.start", b"2")
    assert await heard.count(2) == [b"1", b"2"]


async def test_requests_are_answered_refused_or_time_out(messaging: Messaging) -> None:
    bus, other = await messaging.bus(), await messaging.bus()
    other.subscribe("wc.owner.1.log", lambda data, reply, subject: _answer(other.publish(reply, data * 2)))
    other.subscribe("wc.owner.2.log", lambda data, reply, subject: None)
    await other.flush()
    answers = await asyncio.gather(*(bus.request("wc.owner.1.log", b"%d" % n, 5.0) for n in range(50)))
    assert answers == [b"%d" % n * 2 for n in range(50)]
    with pytest.raises(RequestTimeout):
        await bus.request("wc.owner.2.log", b"", 0.05)
    with pytest.raises(NoResponders):
        await bus.request("wc.owner.3.log", b"", 5.0)


def _answer(sent: bool) -> None:
    assert sent


async def test_a_cancelled_request_leaves_the_bus_in_order(messaging: Messaging) -> None:
    bus = await messaging.bus()
    bus.subscribe("wc.owner.2.log", lambda data, reply, subject: None)
    request = asyncio.create_task(bus.request("wc.owner.2.log", b"", 60.0))
    await bus.flush()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await bus.flush()
    assert bus.state == "connected"


async def test_what_can_never_be_sent_is_refused_clearly(messaging: Messaging) -> None:
    bus, published = await messaging.bus(), await messaging.publisher()
    heard: Collected[int] = Collected()
    bus.subscribe("wc.start", lambda data, reply, subject: heard.add(len(data)))
    too_long = bytes(MESSAGE_BYTES_MAX + 1)
    with pytest.raises(PayloadTooLarge, match="524289 bytes"):
        bus.publish("wc.start", too_long)
    with pytest.raises(PayloadTooLarge, match="524289 bytes"):
        await bus.request("wc.start", too_long, 1.0)
    with pytest.raises(PayloadTooLarge, match="task big: 524289 bytes"):
        published.publisher.publish("default", "big", too_long)
    for subject in ("", "a b", "a\r\nPUB b 0\r\n", "a\n"):
        with pytest.raises(ValueError, match="malformed"):
            bus.publish(subject, b"")
    with pytest.raises(ValueError, match="malformed"):
        published.publisher.publish("no.queue", "id", b"")
    bus.publish("wc.start", bytes(MESSAGE_BYTES_MAX))
    assert await heard.first() == MESSAGE_BYTES_MAX


async def test_a_bus_survives_its_server(messaging: Messaging) -> None:
    bus = await messaging.bus()
    heard: Collected[bytes] = Collected()
    lost: Collected[bool] = Collected()
    back: Collected[bool] = Collected()
    bus.subscribe("wc.start", lambda data, reply, subject: heard.add(data))
    messaging.watch(bus, lambda: lost.add(True))
    handle = bus.on_reconnected(lambda: back.add(True))
    await messaging.stop()
    await lost.first()
    assert bus.state == "reconnecting"
    assert bus.publish("wc.start", b"kept")
    with pytest.raises(Disconnected):
        await bus.request("wc.start", b"", 5.0)
    with pytest.raises(BusError):
        await bus.flush(0.1)
    await messaging.start()
    await back.first()
    assert bus.state == "connected"
    bus.publish("wc.start", b"new")
    assert await heard.count(2) == [b"kept", b"new"]
    handle.unsubscribe()
    handle.unsubscribe()


async def test_a_closed_bus_stays_closed(messaging: Messaging) -> None:
    bus = await messaging.bus()
    bus.subscribe("wc.start", lambda data, reply, subject: None)
    await bus.close()
    await bus.close()
    assert bus.state == "closed"
    assert not bus.publish("wc.start", b"")
    with pytest.raises(BusError):
        await bus.request("wc.start", b"", 1.0)


# The work queue


async def test_each_task_is_delivered_once_in_order_within_the_slots(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    _publish(published, 200)
    confirmed = await published.confirmed.count(200)
    assert [message_id for message_id, _, _ in confirmed] == [f"default-task-{n}" for n in range(200)]
    pulled = await messaging.puller(7, acks=True)
    deliveries = await pulled.deliveries.count(200)
    assert [delivery.sequence for delivery in deliveries] == [sequence for _, sequence, _ in confirmed]
    assert [int(delivery.data) for delivery in deliveries] == list(range(200))
    assert {delivery.delivered_count for delivery in deliveries} == {1}
    assert pulled.most_taken <= 7
    await _empty(published)


async def test_a_message_id_is_stored_once(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    published.publisher.publish("default", "same", b"1")
    await published.confirmed.count(1)
    published.publisher.publish("default", "same", b"2")
    (_, first, doubled), (_, second, repeated) = await published.confirmed.count(2)
    assert (first, doubled, repeated) == (second, False, True)
    pulled = await messaging.puller(4, acks=True)
    assert (await pulled.deliveries.count(1))[0].data == b"1"
    await _empty(published)
    assert len(pulled.deliveries.items) == 1
    assert not await published.publisher.has_sequence(first)
    published.publisher.publish("default", "same", b"3")
    assert (await published.confirmed.count(3))[2][2]


async def test_a_delivery_says_where_it_stands(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    _publish(published, 1, "other")
    ((_, sequence, _),) = await published.confirmed.count(1)
    pulled = await messaging.puller(4, ["default", "other"])
    delivery = await pulled.deliveries.first()
    created_at = (await published.publisher.stream_state()).created_at
    assert (delivery.queue, delivery.subject, delivery.sequence) == ("other", "wc.tasks.other", sequence)
    assert created_at <= delivery.timestamp <= created_at + 60_000_000
    assert await published.publisher.has_sequence(sequence)
    state = await published.publisher.consumer_state("other")
    assert (state.pending, state.unacknowledged, state.delivered_sequence) == (0, 1, sequence)
    delivery.ack()
    assert delivery.settled
    await _empty(published)
    assert (await published.publisher.consumer_state("other")).ack_floor_sequence == sequence


async def test_an_unacknowledged_task_comes_again(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    _publish(published, 1)
    pulled = await messaging.puller(3)
    first, second = await pulled.deliveries.count(2)
    assert (first.sequence, first.delivered_count) == (second.sequence, 1)
    assert second.delivered_count == 2
    second.nak()
    third = (await pulled.deliveries.count(3))[2]
    assert third.delivered_count == 3
    third.nak(0.1)
    (await pulled.deliveries.count(4))[3].term()
    await _empty(published)


async def test_progress_keeps_a_task(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    _publish(published, 1)
    pulled = await messaging.puller(3)
    delivery = await pulled.deliveries.first()
    beats = await messaging.bus()  # as a runner's own thread would do it, with a bus of its own
    for _ in range(10):
        beats.publish(delivery.reply, b"+WPI")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.1)
    assert len(pulled.deliveries.items) == 1
    delivery.ack()
    await _empty(published)


async def test_slots_are_taken_until_they_are_released(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    pulled = await messaging.puller(3)
    _publish(published, 1)
    (heavy,) = await pulled.deliveries.count(1)
    heavy.take(3)
    heavy.begin()
    assert pulled.puller.free_slots == 0
    heavy.release()
    heavy.release()
    assert pulled.puller.free_slots == 3
    heavy.ack()
    assert pulled.puller.free_slots == 3
    pulled.puller.resize(1)
    assert pulled.puller.free_slots == 1


async def test_a_drain_gives_back_what_is_not_begun(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    _publish(published, 4)
    pulled = await messaging.puller(4)
    deliveries = await pulled.deliveries.count(4)
    deliveries[2].begin()
    assert list(await pulled.puller.drain()) == [deliveries[2]]
    assert (await published.publisher.consumer_state("default")).waiting == 0
    other = await messaging.puller(4, acks=True)
    again = await other.deliveries.count(3)
    assert {delivery.sequence for delivery in again} == {
        d.sequence for d in deliveries if d is not deliveries[2]
    }
    deliveries[2].ack()
    await _empty(published)


async def test_what_was_published_while_the_server_was_away_arrives(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    pulled = await messaging.puller(8, acks=True)
    await messaging.stop()
    _publish(published, 20)
    assert published.publisher.unconfirmed == 20
    published.publisher.withdraw("default-task-0")
    await messaging.start()
    await pulled.deliveries.until(lambda items: len({delivery.data for delivery in items}) == 19)
    await published.confirmed.count(19)
    assert published.publisher.unconfirmed == 0


async def test_a_wiped_store_is_made_again_by_a_publisher(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    _publish(published, 3)
    before = await published.confirmed.count(3)
    created_at = (await published.publisher.stream_state()).created_at
    await messaging.stop()
    await messaging.start(wiped=True)
    _publish(published, 3, prefix="new")
    after = (await published.confirmed.count(6))[3:]
    await published.missing.first()
    state = await published.publisher.stream_state()
    assert state.created_at > created_at
    assert state.messages == 3
    assert min(sequence for _, sequence, _ in after) > max(sequence for _, sequence, _ in before)


async def test_a_wiped_store_is_made_again_by_a_puller(messaging: Messaging) -> None:
    await messaging.ensure()
    pulled = await messaging.puller(8, acks=True)
    await messaging.stop()
    await messaging.start(wiped=True)
    await pulled.missing.first()
    published = await messaging.publisher()
    _publish(published, 3)
    await pulled.deliveries.count(3)
    await _empty(published)
    assert published.missing.items == []


async def test_two_pullers_share_the_work(messaging: Messaging) -> None:
    await messaging.ensure()
    published = await messaging.publisher()
    first = await messaging.puller(4, acks=True)
    second = await messaging.puller(4, acks=True)
    _publish(published, 200)
    await _confirmed_and_empty(published, 200)
    seen = [delivery.data for delivery in (*first.deliveries.items, *second.deliveries.items)]
    assert len(seen) == len(set(seen)) == 200
    assert first.deliveries.items
    assert second.deliveries.items


async def _confirmed_and_empty(published: Published, count: int) -> None:
    await published.confirmed.count(count)
    await _empty(published)
