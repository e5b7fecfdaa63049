"""What `adapters.bus.Bus` promises, on the real server and in memory."""

from __future__ import annotations

import asyncio

import pytest

from services.adapters.bus import (
    MESSAGE_BYTES_MAX,
    BusError,
    Disconnected,
    NoResponders,
    PayloadTooLarge,
    RequestTimeout,
)
from tests.conformance.messaging import Messaging
from tests.support.collecting import Collected


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
