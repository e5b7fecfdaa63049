"""Life of a process: start, serve, drain in order on SIGTERM or SIGINT, end loudly when a part dies.

What is opened registers how it is closed; a drain runs those steps in reverse order, each bounded in time.
A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import uvloop

from services.adapters.log import get_logger
from services.adapters.metrics import DutyMetrics

DRAIN_STEP_SECONDS = 10.0
YOUNG_OBJECTS_MAX = 20_000
BACKOFF_SECONDS_MIN = 0.1
BACKOFF_SECONDS_MAX = 5.0
EXIT_FAILED = 1

log = get_logger(__name__)


class Process:
    """One process: supervises its tasks and knows how to drain."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stop = asyncio.Event()
        self._failed = False
        self._steps: list[tuple[str, Callable[[], Awaitable[object]], float]] = []

    @property
    def stopping(self) -> bool:
        """True once a signal came or a part died."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Begin the drain."""
        self._stop.set()

    def fail(self, part: str, error: BaseException | None) -> None:
        """A part that must live has died: end the process with a code that says so."""
        if not self._stop.is_set():
            log.error("part died", part=part, exc_info=error)
            self._failed = True
            self._stop.set()

    def on_drain(
        self, name: str, step: Callable[[], Awaitable[object]], timeout_s: float = DRAIN_STEP_SECONDS
    ) -> None:
        """Run `step` in the drain, before all steps that were registered earlier."""
        self._steps.append((name, step, timeout_s))

    def spawn(self, name: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Run a task that must outlive everything registered before it; its end before the drain is fatal."""
        task = asyncio.create_task(work, name=name)

        def ended(done: asyncio.Task[object]) -> None:
            if not done.cancelled():
                self.fail(name, done.exception())

        async def cancel() -> None:
            task.remove_done_callback(ended)
            task.cancel()
            await asyncio.wait([task])

        task.add_done_callback(ended)
        self.on_drain(name, cancel)
        return task

    def start(self, duty: Duty) -> None:
        """Run a duty until the drain, which lets its current run finish."""
        task = asyncio.create_task(duty.run(), name=duty.name)

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (done.exception() is not None or not duty.stopping):
                self.fail(duty.name, done.exception())

        async def stop() -> None:
            duty.stop()
            try:
                await asyncio.wait_for(asyncio.shield(task), DRAIN_STEP_SECONDS / 2)
            except TimeoutError:
                task.cancel()
                await asyncio.wait([task])

        task.add_done_callback(ended)
        self.on_drain(duty.name, stop)

    async def until_stopped(self) -> None:
        """Return when the drain must begin."""
        await self._stop.wait()

    async def drain(self) -> int:
        """Run the steps in reverse order; one that fails or hangs does not keep the others from it."""
        self._stop.set()
        while self._steps:
            name, step, timeout_s = self._steps.pop()
            try:
                async with asyncio.timeout(timeout_s):
                    await step()
            except TimeoutError:
                log.warning("drain step took too long", step=name, timeout_seconds=timeout_s)
            except Exception as error:  # a failed step is reported; the rest must still be closed
                log.error("drain step failed", step=name, exc_info=error)
        return EXIT_FAILED if self._failed else 0


class Duty:
    """A background loop that only calls `run_once`, every `interval_s` and whenever it is woken.

    Exceptions of the `tolerated` types (a database that restarts, say) are logged and tried again with
    backoff; any other ends the process.
    """

    def __init__(
        self,
        name: str,
        run_once: Callable[[], Awaitable[Mapping[str, int] | None]],
        interval_s: float,
        *,
        tolerated: tuple[type[Exception], ...] = (),
        metrics: DutyMetrics | None = None,
    ) -> None:
        self.name = name
        self.stopping = False
        self._run_once = run_once
        self._interval_s = interval_s
        self._tolerated = tolerated
        self._metrics = metrics
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Run soon, without waiting for the interval."""
        self._wake.set()

    def stop(self) -> None:
        """End after the current run."""
        self.stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Loop until stopped."""
        backoff_s = 0.0
        while not self.stopping:
            self._wake.clear()
            try:
                await self._measured()
                backoff_s = 0.0
            except self._tolerated as error:
                backoff_s = min(max(backoff_s * 2, BACKOFF_SECONDS_MIN), BACKOFF_SECONDS_MAX)
                log.warning("duty will try again", duty=self.name, error=str(error), after_seconds=backoff_s)
            if not self.stopping:
                await self._pause(max(self._interval_s, backoff_s))

    async def _measured(self) -> None:
        if self._metrics is None:
            await self._run_once()
            return
        try:
            with self._metrics.seconds.of(self.name).time():
                await self._run_once()
        except Exception:
            self._metrics.runs.of(self.name, "failed").inc()
            raise
        self._metrics.runs.of(self.name, "ok").inc()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass


def run(name: str, serve: Callable[[Process], Awaitable[object]]) -> int:
    """Run a process on uvloop and return its exit code.

    `serve` opens everything, registers what to drain, and returns once the process works.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(Process(name), serve))


async def _live(process: Process, serve: Callable[[Process], Awaitable[object]]) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, process, number)
    starting = asyncio.ensure_future(serve(process))
    stopped = asyncio.create_task(process.until_stopped())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
    elif (error := starting.exception()) is not None:
        process.fail("start", error)
    else:
        # What lives from the start lives to the end: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        # Nearly all garbage here dies by its count; the default walks the young every 700 objects.
        gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 50)
        log.info("started", pid=os.getpid())
    await stopped
    log.info("draining")
    code = await process.drain()
    log.info("ended", code=code)
    return code


def _on_signal(process: Process, number: signal.Signals) -> None:
    if process.stopping:
        os._exit(128 + number)
    log.info("signal received", signal=number.name)
    process.stop()
