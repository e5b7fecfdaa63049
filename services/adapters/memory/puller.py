"""`adapters.bus.TaskPuller` in memory: takes from the work queue as many tasks as there are free slots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from services.adapters.bus import Bus, DeliveryCallback
from services.adapters.memory.work_queue import MemoryWorkQueue
from services.adapters.nats.delivery import NatsDelivery
from services.adapters.nats.slots import Slots

WATCH_SECONDS = 1.0


class MemoryTaskPuller:
    """A runner's end of a work queue in memory."""

    def __init__(
        self,
        bus: Bus,
        work_queue: MemoryWorkQueue,
        queues: Sequence[str],
        slots: int,
        on_delivery: DeliveryCallback,
        on_stream_missing: Callable[[], None] | None = None,
    ) -> None:
        """As `adapters.nats.puller.NatsTaskPuller`; deliveries are settled over `bus`."""
        self._bus = bus
        self._work_queue = work_queue
        self._hub = work_queue.hub
        self._queues = list(dict.fromkeys(queues))
        self._slots = Slots(slots, on_delivery, self._pump_soon)
        self._on_stream_missing = on_stream_missing
        self._under_way = 0
        self._pumping = False
        self._handle = bus.on_reconnected(self._look_after)
        self._watch: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Makes sure of the topology and begins to pull."""
        for queue in self._queues:
            self._work_queue.join(queue, self)
        self._watch = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look_after)
        self._work_queue.ensure()
        self._pump_soon()
        await asyncio.sleep(0)

    @property
    def free_slots(self) -> int:
        """Slots that no delivery takes."""
        return max(self._slots.size - self._slots.taken, 0)

    @property
    def in_hand(self) -> int:
        """Deliveries that are not settled yet."""
        return len(self._slots.waiting) + len(self._slots.begun)

    @property
    def room(self) -> int:
        """How many more tasks it would take."""
        if self._slots.closed or self._bus.state != "connected":
            return 0
        return self._slots.size - self._slots.taken - self._under_way

    def resize(self, slots: int) -> None:
        """Changes the number of slots; a smaller one is reached as deliveries are released."""
        self._slots.size = slots
        self._pump_soon()

    def offer(self, data: bytes, subject: str, reply: str) -> None:
        """The work queue sends a task; it may get lost, and may come twice."""
        self._under_way += 1
        arrived = False

        def arrive() -> None:
            nonlocal arrived
            if not arrived:
                self._under_way -= 1
                arrived = True
            if not self._hub.stopped:
                self._slots.deliver(NatsDelivery(self._bus, self._slots, data, subject, reply))

        self._hub.carry(arrive, lost=self._lost)

    def _lost(self) -> None:
        # Its slot is asked for again; the task comes again after AckWait.
        self._under_way -= 1
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        # Another queue is asked first each time.
        self._queues.append(self._queues.pop(0))
        for queue in self._queues:
            self._work_queue.pump(queue)

    def _look_after(self) -> None:
        """Once a second, and after reconnections: makes a missing stream again, as a refused pull would."""
        if self._slots.closed:
            return
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look_after)
        if not self._hub.stopped and self._work_queue.ensure() and self._on_stream_missing is not None:
            self._on_stream_missing()
        self._pump_soon()

    async def drain(self, timeout: float = 2.0) -> Sequence[NatsDelivery]:
        """Stops pulling and gives back what was delivered but not begun; see `adapters.bus.TaskPuller.drain`."""
        if not self._slots.closed:
            self._slots.closed = True
            self._handle.unsubscribe()
            if self._watch is not None:
                self._watch.cancel()
            for queue in self._queues:
                self._work_queue.leave(queue, self)
            await asyncio.sleep(0)
        return self._slots.close()
