"""Collects what callbacks bring, and waits for it without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from services.adapters.bus import Delivery
from services.adapters.nats.connection import NatsBus, connect
from services.adapters.nats.publisher import NatsTaskPublisher
from services.adapters.nats.puller import NatsTaskPuller
from services.adapters.nats.topology import DEFAULT_LIMITS, QueueLimits

WAIT_SECONDS = 20.0

T = TypeVar("T")


class Collected(Generic[T]):
    """A list that says when something was added."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self._more = asyncio.Event()

    def add(self, item: T) -> None:
        """Takes one."""
        self.items.append(item)
        self._more.set()

    async def until(self, enough: Callable[[list[T]], bool]) -> list[T]:
        """The items, as soon as they are enough."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not enough(self.items):
                self._more.clear()
                await self._more.wait()
        return self.items

    async def count(self, wanted: int) -> list[T]:
        """The items, as soon as there are so many."""
        return await self.until(lambda items: len(items) >= wanted)

    async def first(self) -> T:
        """The first item."""
        return (await self.count(1))[0]


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
