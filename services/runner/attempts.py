"""Runs attempts: resolves parameters, calls the handler, keeps the timeouts, reports how it ended.

An attempt is reported exactly once: by its handler's end, or before it by a timeout, a cancellation's grace or a
drain. A handler that is not over by then is abandoned: a coroutine is cancelled, a thread can only be told, and
either keeps its slots until it has really ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from services.adapters.clock import Clock
from services.adapters.log import get_logger, speak_of
from services.core.errors import ExpressionError
from services.core.ids import uuid_text
from services.core.tasks import CANCEL_GRACE_US, HEARTBEAT, START_TO_CLOSE, Failure
from services.core.units import SECOND
from services.runner.attempt_log import LogShipper
from services.runner.context import AttemptContext
from services.runner.handlers import Handler, Mode
from services.runner.held import Held, HeldTasks, Stage
from services.runner.metrics import RunnerMetrics
from services.runner.outbox import Outbox
from services.runner.outcomes import cancelled, expression_failed, failed, succeeded, timed_out
from services.runner.parameters import Parameters
from services.runner.sampling import Sampler
from services.runner.threads import HandlerThreads

log = get_logger(__name__)

Outcome = bytes | Failure


class Attempts:
    """The attempts that run in this process. Belongs to the main loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        held: HeldTasks,
        parameters: Parameters,
        outbox: Outbox,
        shipper: LogShipper,
        threads: HandlerThreads,
        sampler: Sampler,
        clock: Clock,
        metrics: RunnerMetrics,
        on_free: Callable[[], None],
    ) -> None:
        self._on_free = on_free
        self._loop = loop
        self._held = held
        self._parameters = parameters
        self._outbox = outbox
        self._shipper = shipper
        self._threads = threads
        self._sampler = sampler
        self._clock = clock
        self._metrics = metrics

    def begin(self, held: Held, handler: Handler) -> None:
        """Run a task now; it was admitted."""
        task = held.task
        self._held.begun(held)
        held.deliveries[0].begin()
        held.started_at = self._clock.now()
        held.started_monotonic = held.heartbeat_at = self._clock.monotonic()
        try:
            arguments = self._arguments(held, handler)
        except ExpressionError as error:
            self._over(held, expression_failed(str(error)))
            return
        except Exception as error:  # a task that makes no sense fails its attempt, not the runner
            self._over(held, failed(error))
            return
        if task.sampled:
            self._sampler.begin(held)
        if handler.mode is Mode.INLINE:
            self._over(held, _call(handler.function, arguments))
        elif handler.mode is Mode.ASYNC:
            held.work = self._loop.create_task(self._run_async(held, handler.function, arguments))
            self._keep_time(held)
        else:
            call = partial(self._run_in_thread, held, handler.function, arguments)
            self._threads.submit(call, partial(self._thread_ended, held))
            self._keep_time(held)

    def cancel(self, held: Held, reason: str) -> None:
        """Tell a running handler to end; abandon it when the grace is over."""
        if held.stage is not Stage.RUNNING or held.stopping:
            return
        held.stopping = True
        self._tell(held)
        self._after(
            held, CANCEL_GRACE_US / SECOND, self._abandon, held, f"{reason}; abandoned after the grace"
        )

    def give_back(self, held: Held) -> None:
        """End a running attempt as returned: it will run elsewhere. Its handler is told and abandoned."""
        if held.stage is Stage.RUNNING:
            self.report(held, None)
            self._tell(held)

    def report(self, held: Held, outcome: Outcome | None) -> None:
        """Send how an attempt ended (None: given back), after its log lines; only once for each attempt."""
        held.cancel_timers()
        self._held.ended(held)
        if held.task.sampled:
            self._sampler.end(held)
        ended_at = self._clock.now()
        self._metrics.attempt_ended(held, outcome, self._clock.monotonic() - held.started_monotonic)
        if isinstance(outcome, Failure):
            log.info("attempt failed", **_names(held), type=outcome.type, message=outcome.message)
        if held.log is None:
            self._outbox.add(held, ended_at, outcome)
        else:
            self._shipper.finish(held.log, partial(self._outbox.add, held, ended_at, outcome))

    def _arguments(self, held: Held, handler: Handler) -> tuple[Any, ...]:
        value = self._parameters.resolve(held.task.parameters, held.task.bindings)
        if not handler.takes_context:
            return (value,)
        held.context = AttemptContext(held, self._shipper, self._clock)
        return (value, held.context)

    async def _run_async(self, held: Held, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            # Lines that the handler's own loggers write carry these; the task's context ends with it.
            speak_of(partial(_names, held))
            if held.task.sampled:
                value = await self._sampler.measured(held, function(*arguments))
            else:
                value = await function(*arguments)
            outcome = succeeded(value)
        except asyncio.CancelledError as error:
            outcome = cancelled("the attempt was cancelled") if held.stopping else failed(error)
        except BaseException as error:  # whatever a handler raises is its result, SystemExit included
            outcome = failed(error)
        self._over(held, outcome)

    def _run_in_thread(self, held: Held, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        # Each call in this thread begins by binding its own names.
        speak_of(partial(_names, held))
        return self._sampler.call(held, function, arguments)

    def _thread_ended(self, held: Held, value: Any, error: BaseException | None) -> None:
        self._over(held, succeeded(value) if error is None else failed(error))

    def _over(self, held: Held, outcome: Outcome) -> None:
        """The handler has really ended."""
        reported = held.stage is Stage.ENDED
        held.work = None
        self._held.handler_ended(held)
        if self._held.has_line:
            self._loop.call_soon(self._on_free)
        if not reported:
            self.report(held, outcome)
        else:
            log.info("abandoned handler ended", **_names(held))

    def _keep_time(self, held: Held) -> None:
        task = held.task
        if task.start_to_close_us:
            self._after(
                held,
                task.start_to_close_us / SECOND,
                self._time_out,
                held,
                START_TO_CLOSE,
                task.start_to_close_us,
            )
        if task.heartbeat_us:
            self._after(held, task.heartbeat_us / SECOND, self._check_heartbeat, held)

    def _check_heartbeat(self, held: Held) -> None:
        left_s = held.heartbeat_at + held.task.heartbeat_us / SECOND - self._clock.monotonic()
        if left_s <= 0:
            self._time_out(held, HEARTBEAT, held.task.heartbeat_us)
        elif held.stage is Stage.RUNNING:
            self._after(held, left_s, self._check_heartbeat, held)

    def _time_out(self, held: Held, timeout: str, timeout_us: int) -> None:
        if held.stage is Stage.RUNNING:
            self.report(held, timed_out(timeout, timeout_us))
            self._tell(held)

    def _abandon(self, held: Held, reason: str) -> None:
        if held.stage is Stage.RUNNING:
            log.warning("handler abandoned", **_names(held), reason=reason)
            self.report(held, cancelled(reason))

    def _tell(self, held: Held) -> None:
        if held.context is not None:
            held.context.cancel()
        if held.work is not None:
            held.work.cancel()

    def _after(self, held: Held, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        timer = self._loop.call_later(max(seconds, 0.0), call, *arguments)
        if held.timers is None:
            held.timers = [timer]
        else:
            held.timers.append(timer)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    try:
        return succeeded(function(*arguments))
    except Exception as error:  # a handler's exception is its result
        return failed(error)


def _names(held: Held) -> dict[str, Any]:
    task = held.task
    return {"execution_id": uuid_text(task.execution_id), "node_id": task.node_id, "attempt": task.attempt}
