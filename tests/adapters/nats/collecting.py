"""Buses, publishers and pullers on a real server, with what they said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.adapters.bus import Delivery
from services.adapters.nats.connection import NatsBus, connect
from services.adapters.nats.publisher import NatsTaskPublisher
from services.adapters.nats.puller import NatsTaskPuller
from services.adapters.nats.topology import DEFAULT_LIMITS, QueueLimits
from tests.support.collecting import Collected


class Link:
    """A bus with its losses and returns."""

    def __init__(self, bus: NatsBus) -> None:
        self.bus = bus
        self.lost: Collected[str] = Collected()
        self.back: Collected[str] = Collected()
        bus.on_disconnected(lambda: self.lost.add(bus.state))
        bus.on_reconnected(lambda: self.back.add(bus.state))


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Link]:
    """A connected bus, closed at the end."""
    bus = await connect(url, name="test")
    try:
        yield Link(bus)
    finally:
        await bus.close(0.5)


class Published:
    """A publisher and what it said."""

    def __init__(self, bus: NatsBus, limits: QueueLimits) -> None:
        self.confirmed: Collected[tuple[str, int, bool]] = Collected()
        self.failed: Collected[tuple[str, Exception]] = Collected()
        self.missing: Collected[bool] = Collected()
        self.publisher = NatsTaskPublisher(
            bus,
            lambda *confirmed: self.confirmed.add(confirmed),
            lambda *failed: self.failed.add(failed),
            on_stream_missing=lambda: self.missing.add(True),
            limits=limits,
        )


@asynccontextmanager
async def publishing(bus: NatsBus, limits: QueueLimits = DEFAULT_LIMITS) -> AsyncIterator[Published]:
    """A publisher, closed at the end."""
    published = Published(bus, limits)
    try:
        yield published
    finally:
        await published.publisher.close()


class Pulled:
    """A puller and what it brought; counts what is in hand at most."""

    def __init__(self, bus: NatsBus, queues: list[str], slots: int, limits: QueueLimits, acks: bool) -> None:
        self.deliveries: Collected[Delivery] = Collected()
        self.missing: Collected[bool] = Collected()
        self.most_in_hand = 0
        self._acks = acks
        self.puller = NatsTaskPuller(
            bus, queues, slots, self._take, on_stream_missing=lambda: self.missing.add(True), limits=limits
        )

    def _take(self, delivery: Delivery) -> None:
        self.most_in_hand = max(self.most_in_hand, self.puller.in_hand)
        if self._acks:
            delivery.begin()
            asyncio.get_running_loop().call_soon(delivery.ack)
        self.deliveries.add(delivery)


@asynccontextmanager
async def pulling(
    bus: NatsBus,
    queues: list[str],
    slots: int,
    limits: QueueLimits = DEFAULT_LIMITS,
    acks: bool = False,
) -> AsyncIterator[Pulled]:
    """A puller at work, drained at the end; `acks`: it acknowledges at once."""
    pulled = Pulled(bus, queues, slots, limits, acks)
    await pulled.puller.start()
    try:
        yield pulled
    finally:
        await pulled.puller.drain(0.5)
