"""The runner's pulse: tells owners what it holds, from a thread of its own that a blocked main loop cannot stop.

The thread has its own loop and its own connection. Within 100 ms after a start it tells of it, unless the task is
over by then; every 5 s it tells of everything and starts the server's wait for each delivery anew. It hears the
owners' answers: cancellations, which go to the main loop, and database time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvloop

from services.adapters.bus import Bus
from services.adapters.clock import SystemClock
from services.adapters.log import get_logger
from services.adapters.nats.delivery import IN_PROGRESS
from services.adapters.nats.topology import BEAT, CONTROL, runner_subject
from services.adapters.wire.tasks import WireError, decode_control, encode_beat
from services.core.tasks import BEAT_US, AttemptRef, Beat, HeldTask
from services.core.units import KIB, SECOND
from services.runner.held import Held, HeldTasks, Stage
from services.runner.sampling import Sampler

# How often the thread looks for starts. Only tasks that have run for a while are told of, so that short ones
# cost nothing; both together stay below the 100 ms promised.
LOOK_SECONDS = 0.05
TOLD_AFTER_SECONDS = 0.03
WHOLE_SECONDS = BEAT_US / SECOND
DETAILS_BYTES_MAX = 256 * KIB
STOP_SECONDS = 3.0

log = get_logger(__name__)

Cancel = Callable[[tuple[AttemptRef, ...]], None]
Connect = Callable[[], Awaitable[Bus]]


@dataclass
class Announcement:
    """What a runner says about itself; the main loop changes it."""

    runner_id: str
    slots: int
    queues: tuple[str, ...]
    node_types: tuple[str, ...]
    address: str = ""
    draining: bool = False


class Pulse:
    """The thread. `start` and `stop` belong to the main loop."""

    def __init__(
        self,
        connect: Connect,
        held: HeldTasks,
        announcement: Announcement,
        on_cancel: Cancel,
        clock: SystemClock,
        sampler: Sampler,
    ) -> None:
        self._connect = connect
        self._held = held
        self._announcement = announcement
        self._on_cancel = on_cancel
        self._clock = clock
        self._sampler = sampler
        self._main = asyncio.get_running_loop()
        self._alive: asyncio.Future[None] = self._main.create_future()
        self._ended: asyncio.Future[None] = self._main.create_future()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bus: Bus | None = None
        self._over: asyncio.Event | None = None
        self._whole_at = 0.0
        self._asked_at = 0.0

    async def start(self) -> None:
        """Start the thread; returns when its first beat has left. Raises what keeps it from connecting."""
        self._thread.start()
        await asyncio.wait([self._alive, self._ended], return_when=asyncio.FIRST_COMPLETED)
        if not self._alive.done():
            await self._ended

    async def until_ended(self) -> None:
        """Return when the thread has ended; raises what ended it."""
        await asyncio.shield(self._ended)

    def beat_soon(self) -> None:
        """Send a whole beat now: something about this runner has changed. Safe in any thread."""
        self._call(self._beat_now)

    async def stop(self) -> None:
        """Send a last beat and end the thread; bounded."""
        self._call(self._end)
        await asyncio.wait([self._ended], timeout=STOP_SECONDS)

    def _call(self, call: Callable[[], None]) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            return  # the thread's loop is closed: there is nobody to tell

    # The thread

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._live())
        except BaseException as raised:  # the main loop must hear of whatever ends this thread
            error = raised
        try:
            self._main.call_soon_threadsafe(_finish, self._ended, error)
        except RuntimeError:
            return  # the main loop is closed already

    async def _live(self) -> None:
        self._over = asyncio.Event()
        self._bus = bus = await self._connect()
        try:
            bus.subscribe(runner_subject(self._announcement.runner_id, CONTROL), self._on_control)
            bus.on_reconnected(self._beat_now)
            self._loop = asyncio.get_running_loop()
            self._look()
            self._main.call_soon_threadsafe(_finish, self._alive, None)
            await self._over.wait()
        finally:
            await bus.close()

    def _look(self) -> None:
        """Look at the held tasks, do what follows from it, and look again soon."""
        bus = self._bus
        if bus is None or self._loop is None:
            return
        self._loop.call_later(LOOK_SECONDS, self._look)
        now = self._clock.monotonic()
        if now >= self._whole_at:
            self._whole_at = now + WHOLE_SECONDS
            self._beat_whole(bus)
            return
        before = now - TOLD_AFTER_SECONDS
        started = [
            held
            for held in self._held.snapshot()
            if not held.start_told and held.stage is Stage.RUNNING and held.started_monotonic <= before
        ]
        if started:
            self._tell(bus, started, whole=False)

    def _beat_now(self) -> None:
        self._whole_at = self._clock.monotonic() + WHOLE_SECONDS
        if self._bus is not None:
            self._beat_whole(self._bus)

    def _end(self) -> None:
        self._beat_now()
        if self._over is not None:
            self._over.set()

    def _beat_whole(self, bus: Bus) -> None:
        held_tasks = self._held.snapshot()
        for held in held_tasks:
            for delivery in held.deliveries:
                if not delivery.settled:
                    bus.publish(delivery.reply, IN_PROGRESS)
            if held.task.sampled and held.stage is Stage.RUNNING:
                self._sampler.look(held)
        started = [held for held in held_tasks if held.started_at]
        self._tell_details(bus, started)
        self._asked_at = self._clock.monotonic()
        self._tell(bus, started, whole=True)

    def _tell_details(self, bus: Bus, started: list[Held]) -> None:
        """Send what handlers said last, in beats of their own, since together it may not fit into one message.

        It goes with every whole beat, changed or not: an owner that took over has heard none of it.
        """
        part: list[Held] = []
        size = 0
        for held in started:
            if not held.heartbeat_json:
                continue
            if part and size + len(held.heartbeat_json) > DETAILS_BYTES_MAX:
                self._tell(bus, part, whole=False)
                part, size = [], 0
            part.append(held)
            size += len(held.heartbeat_json)
        if part:
            self._tell(bus, part, whole=False)

    def _tell(self, bus: Bus, tasks: list[Held], *, whole: bool) -> None:
        told = []
        for held in tasks:
            details = b"" if whole else held.heartbeat_json
            told.append(HeldTask(*held.key, held.started_at, details))
            held.start_told = True
        says = self._announcement
        beat = Beat(
            says.runner_id, whole, told, says.slots, self._held.running, says.queues,
            says.node_types if whole else (), says.draining, says.address,
        )  # fmt: skip
        bus.publish(BEAT, encode_beat(beat))

    def _on_control(self, data: bytes, reply: str, subject: str) -> None:
        try:
            control = decode_control(data)
        except WireError:
            log.warning("malformed control message", subject=subject)
            return
        if control.now and self._asked_at:
            self._clock.observe(control.now, self._asked_at)
        if control.cancel:
            # The flag is set here, so that a handler which blocks the main loop sees it too.
            for ref in control.cancel:
                held = self._held.by_key.get((ref.execution_id, ref.node, ref.attempt))
                if held is not None and held.context is not None:
                    held.context.cancel()
            self._main.call_soon_threadsafe(self._on_cancel, control.cancel)


def _finish(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
