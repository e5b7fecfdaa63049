"""What the conformance suite asks of an implementation of messaging: the real server, and the one in memory."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from services.adapters.bus import Bus, Delivery, TaskPublisher, TaskPuller
from services.adapters.clock import SystemClock
from services.adapters.memory.bus import MemoryBus
from services.adapters.memory.hub import Faults, MemoryHub
from services.adapters.memory.publisher import MemoryTaskPublisher
from services.adapters.memory.puller import MemoryTaskPuller
from services.adapters.memory.work_queue import MemoryWorkQueue
from services.adapters.nats.connection import NatsBus, connect
from services.adapters.nats.publisher import NatsTaskPublisher
from services.adapters.nats.puller import NatsTaskPuller
from services.adapters.nats.topology import QueueLimits, ensure_topology
from services.local.nats import EmbeddedNats
from tests.support.collecting import Collected

LIMITS = QueueLimits(ack_wait_seconds=0.5)
QUEUES = ["default", "other"]


class Published:
    """A publisher and what it said."""

    def __init__(self) -> None:
        self.confirmed: Collected[tuple[str, int, bool]] = Collected()
        self.failed: Collected[tuple[str, Exception]] = Collected()
        self.missing: Collected[bool] = Collected()
        self.publisher: TaskPublisher

    def on_confirmed(self, message_id: str, sequence: int, duplicate: bool) -> None:
        """See `ConfirmedCallback`."""
        self.confirmed.add((message_id, sequence, duplicate))

    def on_failed(self, message_id: str, error: Exception) -> None:
        """See `FailedCallback`."""
        self.failed.add((message_id, error))

    def on_missing(self) -> None:
        """The stream was made again."""
        self.missing.add(True)


class Pulled:
    """A puller and what it brought."""

    def __init__(self, acks: bool) -> None:
        self.deliveries: Collected[Delivery] = Collected()
        self.missing: Collected[bool] = Collected()
        self.most_taken = 0
        self.puller: TaskPuller
        self._acks = acks
        self._slots = 0

    def started(self, puller: TaskPuller, slots: int) -> None:
        """Which puller it is."""
        self.puller, self._slots = puller, slots

    def on_delivery(self, delivery: Delivery) -> None:
        """See `DeliveryCallback`."""
        self.most_taken = max(self.most_taken, self._slots - self.puller.free_slots)
        if self._acks:
            delivery.begin()
            asyncio.get_running_loop().call_soon(delivery.ack)
        self.deliveries.add(delivery)

    def on_missing(self) -> None:
        """The stream was made again."""
        self.missing.add(True)


class Messaging(ABC):
    """One implementation, and its server."""

    def __init__(self) -> None:
        self._closing: list[Bus] = []
        self._publishers: list[TaskPublisher] = []
        self._pullers: list[TaskPuller] = []

    async def bus(self) -> Bus:
        """A connected bus, closed at the end."""
        bus = await self._connect()
        self._closing.append(bus)
        return bus

    async def publisher(self) -> Published:
        """A publisher of its own bus."""
        published = Published()
        published.publisher = await self._publisher(await self.bus(), published)
        self._publishers.append(published.publisher)
        return published

    async def puller(self, slots: int, queues: list[str] | None = None, acks: bool = False) -> Pulled:
        """A puller of its own bus, at work."""
        pulled = Pulled(acks)
        puller = await self._puller(await self.bus(), queues or QUEUES[:1], slots, pulled)
        pulled.started(puller, slots)
        self._pullers.append(puller)
        await puller.start()
        return pulled

    async def close(self) -> None:
        """Ends everything that was made."""
        for puller in self._pullers:
            await puller.drain(0.2)
        for publisher in self._publishers:
            await publisher.close()
        for bus in self._closing:
            await bus.close(0.2)

    @abstractmethod
    async def _connect(self) -> Bus: ...

    @abstractmethod
    async def _publisher(self, bus: Bus, published: Published) -> TaskPublisher: ...

    @abstractmethod
    async def _puller(self, bus: Bus, queues: list[str], slots: int, pulled: Pulled) -> TaskPuller: ...

    @abstractmethod
    async def ensure(self) -> None:
        """Makes stream and consumers."""

    @abstractmethod
    async def stop(self) -> None:
        """Kills the server."""

    @abstractmethod
    async def start(self, wiped: bool = False) -> None:
        """Starts it again, without its store if `wiped`."""

    @abstractmethod
    def watch(self, bus: Bus, lost: Callable[[], None]) -> None:
        """Calls back when a bus loses its server."""


class NatsMessaging(Messaging):
    """On a real server."""

    def __init__(self, server: EmbeddedNats) -> None:
        super().__init__()
        self._server = server

    async def _connect(self) -> Bus:
        return await connect(self._server.url)

    async def _publisher(self, bus: Bus, published: Published) -> TaskPublisher:
        assert isinstance(bus, NatsBus)
        return NatsTaskPublisher(
            bus, published.on_confirmed, published.on_failed, published.on_missing, QUEUES, LIMITS
        )

    async def _puller(self, bus: Bus, queues: list[str], slots: int, pulled: Pulled) -> TaskPuller:
        assert isinstance(bus, NatsBus)
        return NatsTaskPuller(bus, queues, slots, pulled.on_delivery, pulled.on_missing, LIMITS)

    async def ensure(self) -> None:
        bus = await self.bus()
        assert isinstance(bus, NatsBus)
        await ensure_topology(bus, QUEUES, LIMITS)

    async def stop(self) -> None:
        await self._server.kill()

    async def start(self, wiped: bool = False) -> None:
        if wiped:
            self._server.wipe()
        await self._server.start()

    def watch(self, bus: Bus, lost: Callable[[], None]) -> None:
        assert isinstance(bus, NatsBus)
        bus.on_disconnected(lost)


class MemoryMessaging(Messaging):
    """In memory."""

    def __init__(self, seed: int = 0, faults: Faults | None = None, limits: QueueLimits = LIMITS) -> None:
        super().__init__()
        self.hub = MemoryHub(seed, faults)
        self.work_queue = MemoryWorkQueue(self.hub, SystemClock(), limits)

    async def _connect(self) -> Bus:
        return MemoryBus(self.hub)

    async def _publisher(self, bus: Bus, published: Published) -> TaskPublisher:
        return MemoryTaskPublisher(
            self.work_queue, published.on_confirmed, published.on_failed, published.on_missing
        )

    async def _puller(self, bus: Bus, queues: list[str], slots: int, pulled: Pulled) -> TaskPuller:
        return MemoryTaskPuller(bus, self.work_queue, queues, slots, pulled.on_delivery, pulled.on_missing)

    async def ensure(self) -> None:
        self.work_queue.ensure()

    async def stop(self) -> None:
        self.hub.stop()

    async def start(self, wiped: bool = False) -> None:
        if wiped:
            self.work_queue.wipe()
        self.hub.start()

    def watch(self, bus: Bus, lost: Callable[[], None]) -> None:
        assert isinstance(bus, MemoryBus)
        bus.on_disconnected(lost)
