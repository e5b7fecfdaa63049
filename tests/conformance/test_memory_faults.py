"""The network in memory is as bad as it is told to be, in the same way for the same seed."""

from __future__ import annotations

import asyncio

import pytest

from services.adapters.memory import publisher
from services.adapters.memory.bus import MemoryBus
from services.adapters.memory.hub import Faults, MemoryHub, matches
from services.adapters.nats.topology import QueueLimits
from tests.conformance.messaging import MemoryMessaging
from tests.support.collecting import WAIT_SECONDS

BAD = Faults(lost=0.2, doubled=0.2, late=0.3, late_seconds_max=0.01)


async def _heard(seed: int) -> list[int]:
    hub = MemoryHub(seed, Faults(lost=0.2, doubled=0.2))
    bus, heard = MemoryBus(hub), list[int]()
    bus.subscribe("wc.start", lambda data, reply, subject: heard.append(int(data)))
    for number in range(200):
        bus.publish("wc.start", b"%d" % number)
    await bus.flush()
    await bus.close()
    return heard


async def test_a_seed_gives_one_course_of_events() -> None:
    first = await _heard(7)
    assert first == await _heard(7)
    assert first != await _heard(8)
    assert len(set(first)) < 200  # some are lost
    assert len(set(first)) < len(first)  # some come twice


async def test_late_messages_are_overtaken() -> None:
    hub = MemoryHub(1, Faults(late=0.5, late_seconds_max=0.01))
    bus, heard = MemoryBus(hub), list[int]()
    done = asyncio.Event()

    def hear(data: bytes, reply: str, subject: str) -> None:
        heard.append(int(data))
        if len(heard) == 100:
            done.set()

    bus.subscribe("wc.start", hear)
    for number in range(100):
        bus.publish("wc.start", b"%d" % number)
    async with asyncio.timeout(WAIT_SECONDS):
        await done.wait()
    assert heard != sorted(heard)
    assert sorted(heard) == list(range(100))
    await bus.close()


@pytest.mark.parametrize("seed", range(5))
async def test_every_task_is_done_at_last_on_a_bad_network(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "REPEAT_AFTER_SECONDS", 0.02)
    messaging = MemoryMessaging(seed, BAD, QueueLimits(ack_wait_seconds=0.1))
    published = await messaging.publisher()
    pulled = await messaging.puller(8, acks=True)
    for number in range(100):
        published.publisher.publish("default", f"id-{number}", b"%d" % number)
    await published.confirmed.count(100)
    await pulled.deliveries.until(lambda items: len({delivery.data for delivery in items}) == 100)
    async with asyncio.timeout(WAIT_SECONDS):
        while (await published.publisher.stream_state()).messages:
            pass
    assert pulled.most_taken <= 8
    assert max(delivery.delivered_count for delivery in pulled.deliveries.items) > 1
    await messaging.close()


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("wc.start", "wc.start", True),
        ("wc.*", "wc.start", True),
        ("wc.*", "wc.start.more", False),
        ("wc.>", "wc.start.more", True),
        ("wc.>", "wc", False),
        ("wc.*.log", "wc.7.log", True),
        ("wc.*.log", "wc.7.ask", False),
        ("wc.start", "wc", False),
    ],
)
def test_patterns(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) is expected
