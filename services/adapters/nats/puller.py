"""A runner's end of the work queue: pulls exactly as many tasks as there are free slots.

Each task queue is a *lane* with its own consumer. A single lane asks for all free slots and waits 30 s. Several
lanes share the slots:

- a lane is *hot* while its pulls bring tasks, else cold; hot lanes share the free slots in turns, with short pulls,
  so that what one does not use soon goes to another;
- a cold lane waits with one slot of its own, if there are slots enough; with few slots it does not sit on one while
  another lane is hot, but looks in ten times a second.

Slots asked for count as taken, so there are never more deliveries in hand than slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence

from services.adapters.bus import BusError, DeliveryCallback, StreamState
from services.adapters.nats.connection import NatsBus
from services.adapters.nats.delivery import NatsDelivery
from services.adapters.nats.lane import LONG, SCOUT, SHORT, Lane
from services.adapters.nats.slots import Slots
from services.adapters.nats.topology import DEFAULT_LIMITS, QueueLimits, ensure_topology

logger = logging.getLogger(__name__)

RESERVE_SLOTS_PER_LANE = 4
"""From so many slots per lane on, a cold lane keeps one for itself."""
RENEW_SHARE = 4
"""A single lane that still waits asks again when this part (1/4) of the slots is free."""
SCOUT_SECONDS = 0.1
WATCH_SECONDS = 1.0
REPAIR_WAIT_SECONDS = (0.1, 2.0)
START_WAIT_SECONDS = 5.0


class NatsTaskPuller:
    """`adapters.bus.TaskPuller` over JetStream. Belongs to its bus's event loop."""

    def __init__(
        self,
        bus: NatsBus,
        queues: Sequence[str],
        slots: int,
        on_delivery: DeliveryCallback,
        on_stream_missing: Callable[[], None] | None = None,
        limits: QueueLimits = DEFAULT_LIMITS,
    ) -> None:
        """`on_delivery` gets each task; `on_stream_missing` is called once a missing stream is made again."""
        self._bus = bus
        self._queues = list(dict.fromkeys(queues))
        self._slots = Slots(slots, on_delivery, self.assign_soon)
        self._on_stream_missing = on_stream_missing
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._lanes = [Lane(bus, queue, self) for queue in self._queues]
        self._turn = 0
        self._assigning = False
        self._draining = False
        self._healthy = False
        self._created_at = 0
        self._connected = asyncio.Event()
        self._dice = random.Random()
        self._repair: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._scout: asyncio.TimerHandle | None = None
        self._handles = [
            bus.on_reconnected(self._on_reconnected),
            bus.on_disconnected(self._on_disconnected),
        ]

    async def start(self) -> None:
        """Makes sure of the topology and begins to pull. Retries by itself when that takes over 5 s."""
        self._watch = self._loop.call_later(WATCH_SECONDS, self._look_after)
        self._repair = asyncio.create_task(self._restore())
        await asyncio.wait([self._repair], timeout=START_WAIT_SECONDS)

    @property
    def free_slots(self) -> int:
        """Slots that no delivery takes."""
        return max(self._slots.size - self._slots.taken, 0)

    @property
    def in_hand(self) -> int:
        """Deliveries that are not settled yet."""
        return len(self._slots.waiting) + len(self._slots.begun)

    def resize(self, slots: int) -> None:
        """Changes the number of slots; a smaller one is reached as deliveries are released."""
        self._slots.size = slots
        self.assign_soon()

    # What lanes report

    def deliver(self, data: bytes, subject: str, reply: str) -> None:
        """A task came."""
        self._slots.deliver(NatsDelivery(self._bus, self._slots, data, subject, reply))

    def assign_soon(self) -> None:
        """Shares out free slots at the end of this turn of the loop, so that several are asked for at once."""
        if not self._assigning:
            self._assigning = True
            self._loop.call_soon(self._assign)

    def repair(self) -> None:
        """Makes the topology again and starts all lanes anew; once for all who found it broken."""
        if self._draining or (self._repair is not None and not self._repair.done()):
            return
        self._healthy = False
        self._repair = asyncio.create_task(self._pause_and_restore())

    # Sharing

    def _unasked(self) -> int:
        """Slots that are free and not asked for."""
        return self._slots.size - self._slots.taken - sum(lane.asked for lane in self._lanes)

    def _assign(self) -> None:
        self._assigning = False
        free = self._unasked()
        if self._draining or not self._healthy or free <= 0:
            return
        if len(self._lanes) == 1:
            lane = self._lanes[0]
            if not lane.asked or free * RENEW_SHARE >= self._slots.size:
                lane.pull(free, LONG)
            return
        self._share(free)

    def _share(self, free: int) -> None:
        self._turn += 1
        turn = self._turn % len(self._lanes)
        lanes = self._lanes[turn:] + self._lanes[:turn]
        hot = [lane for lane in lanes if lane.hot]
        cold = [lane for lane in lanes if not lane.hot and not lane.asked]
        reserve = self._slots.size >= RESERVE_SLOTS_PER_LANE * len(lanes)
        if reserve or not hot:
            for lane in cold[:free]:
                lane.pull(1, LONG if reserve else SHORT)
                free -= 1
        elif cold and self._scout is None:
            self._scout = self._loop.call_later(SCOUT_SECONDS, self._look_in)
        for index, lane in enumerate(hot):
            if share := -(-free // (len(hot) - index)):
                lane.pull(share, SHORT)
                free -= share

    def _look_in(self) -> None:
        """Asks one cold lane, without waiting, whether it has something."""
        self._scout = None
        free = self._unasked()
        cold = [lane for lane in self._lanes if not lane.hot and not lane.asked]
        if self._draining or not self._healthy or not cold:
            return
        if free > 0:
            self._turn += 1
            cold[self._turn % len(cold)].pull(1, SCOUT)
        else:
            self._scout = self._loop.call_later(SCOUT_SECONDS, self._look_in)

    # Keeping it alive

    def _on_disconnected(self) -> None:
        self._connected.clear()
        for lane in self._lanes:
            lane.close()

    def _on_reconnected(self) -> None:
        self._connected.set()
        for lane in self._lanes:
            lane.restart()
        self.assign_soon()

    def _look_after(self) -> None:
        """Once a second: forgets pulls that must have ended, restarts lanes that are silent for too long."""
        self._watch = self._loop.call_later(WATCH_SECONDS, self._look_after)
        for lane in self._lanes:
            lane.look_after()
        self.assign_soon()

    async def _pause_and_restore(self) -> None:
        await asyncio.sleep(self._dice.uniform(0, REPAIR_WAIT_SECONDS[0]))
        await self._restore()

    async def _restore(self) -> None:
        wait, longest = REPAIR_WAIT_SECONDS
        while (state := await self._make_topology()) is None:
            self._connected.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._connected.wait(), self._dice.uniform(wait / 2, wait))
            wait = min(wait * 2, longest)
        for lane in self._lanes:
            lane.restart()
        self._healthy = True
        self.assign_soon()
        before, self._created_at = self._created_at, state.created_at
        if self._on_stream_missing is not None and before not in (0, state.created_at):
            self._on_stream_missing()

    async def _make_topology(self) -> StreamState | None:
        try:
            return await ensure_topology(self._bus, self._queues, self._limits)
        except BusError as error:
            logger.warning("nats: cannot make the topology: %s", error)
            return None

    async def drain(self, timeout: float = 2.0) -> Sequence[NatsDelivery]:
        """Stops pulling and gives back what was delivered but not begun; see `adapters.bus.TaskPuller.drain`."""
        if not self._draining:
            self._draining = self._slots.closed = True
            for handle in self._handles:
                handle.unsubscribe()
            for timer in (self._watch, self._scout):
                if timer is not None:
                    timer.cancel()
            if self._repair is not None:
                self._repair.cancel()
            for lane in self._lanes:
                lane.close()
            # What was under way arrives before the answer, and goes back at once.
            with contextlib.suppress(BusError):
                await self._bus.flush(timeout)
        return self._slots.close()
