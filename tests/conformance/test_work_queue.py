"""What `adapters.bus.TaskPublisher` and `TaskPuller` promise, on the real server and in memory."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.messaging import Messaging, Published
from tests.support.collecting import WAIT_SECONDS


def _publish(published: Published, count: int, queue: str = "default", prefix: str = "task") -> None:
    for number in range(count):
        assert published.publisher.publish(queue, f"{queue}-{prefix}-{number}", f"{number}".encode())


async def _empty(published: Published) -> None:
    """Returns when everything is acknowledged."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (await published.publisher.stream_state()).messages:
            pass


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
