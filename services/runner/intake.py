"""What becomes of a delivered task: it runs, waits, is asked about, or goes back.

A fresh task (delivered once, published once, younger than 5 s in database time) runs at once. Any other may have
been run, be running, or not be wanted any more, which only its owner knows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from services.adapters.bus import Bus, Delivery
from services.adapters.clock import Clock
from services.adapters.log import get_logger
from services.adapters.wire.tasks import WireError, decode_task
from services.core.tasks import FRESH_US, AttemptKey, AttemptRef, Task
from services.core.units import SECOND
from services.runner.asks import Asks
from services.runner.attempts import Attempts
from services.runner.handlers import Handlers
from services.runner.held import Held, HeldTasks, Stage
from services.runner.metrics import RunnerMetrics
from services.runner.outcomes import cancelled

# Settled attempts that are remembered, so that a late double of a fresh delivery is asked about.
SETTLED_MAX = 16_384
# A task from the future by more than this has a clock behind it that is wrong, ours or the publisher's.
CLOCK_SLACK_US = SECOND
UNKNOWN_TYPE_DELAY_SECONDS = 1.0
CANCELLED_BEFORE = "cancelled before it began"

log = get_logger(__name__)


class Intake:
    """Takes deliveries, answers, cancellations and settlements. Belongs to the main loop."""

    def __init__(
        self,
        bus: Bus,
        runner_id: str,
        held: HeldTasks,
        handlers: Handlers,
        clock: Clock,
        metrics: RunnerMetrics,
        draw: Callable[[], float],
    ) -> None:
        self._draw = draw
        self._held = held
        self._handlers = handlers
        self._clock = clock
        self._metrics = metrics
        self._settled: OrderedDict[AttemptKey, None] = OrderedDict()
        self._attempts: Attempts | None = None
        self.draining = False
        self.asks = Asks(bus, runner_id, clock, self._admit, self._drop)

    def connect(self, attempts: Attempts) -> None:
        """Where tasks run; called once, before the first delivery."""
        self._attempts = attempts

    @property
    def _running(self) -> Attempts:
        if self._attempts is None:
            raise RuntimeError("deliveries came before the wiring was complete")
        return self._attempts

    def deliver(self, delivery: Delivery) -> None:
        """Take one delivery."""
        if self.draining:
            self._metrics.deliveries.add("draining")
            delivery.nak()
            return
        try:
            task = decode_task(delivery.data)
        except WireError as error:
            self._metrics.deliveries.add("malformed")
            log.error(
                "malformed task", subject=delivery.subject, sequence=delivery.sequence, error=str(error)
            )
            delivery.term()
            return
        key = (task.execution_id, task.node, task.attempt)
        known = self._held.by_key.get(key)
        if known is not None:
            # It is in hand already: this delivery is settled together with the first, and takes no slot.
            self._metrics.deliveries.add("doubled")
            known.deliveries.append(delivery)
            delivery.begin()
            delivery.release()
            return
        if self._handlers.get(task.type) is None:
            self._give_to_others(task, delivery)
            return
        held = self._held.take(task, delivery)
        if self._is_fresh(task, delivery, key):
            self._metrics.deliveries.add("fresh")
            self._admit(held)
        else:
            self._metrics.deliveries.add("asked")
            self.asks.ask(held)

    def cancel(self, refs: tuple[AttemptRef, ...]) -> None:
        """Cancel what of these is in hand."""
        for ref in refs:
            held = self._held.by_key.get((ref.execution_id, ref.node, ref.attempt))
            if held is None or held.stage is Stage.ENDED:
                continue
            if held.stage is Stage.RUNNING:
                self._running.cancel(held, "the attempt was cancelled")
            else:
                self.asks.forget(held)
                held.deliveries[0].begin()
                held.started_monotonic = self._clock.monotonic()
                self._running.report(held, cancelled(CANCELLED_BEFORE))
                held.deliveries[0].release()

    def settled(self, held: Held, counted: bool) -> None:
        """A verdict came for a held task's result."""
        self._metrics.verdicts.add("counted" if counted else "stale")
        self._forget(held)

    def begin_waiting(self) -> None:
        """Begin what stands in line, as far as slots are free."""
        while (held := self._held.next_admitted()) is not None:
            self._begin(held)

    def give_back_waiting(self) -> int:
        """Give back, in a drain, everything that has not begun; how much it was."""
        waiting = [held for held in self._held.snapshot() if held.stage is Stage.WAITING]
        for held in waiting:
            self.asks.forget(held)
            self._held.forget(held)
            for delivery in held.deliveries:
                delivery.nak()
        return len(waiting)

    def _is_fresh(self, task: Task, delivery: Delivery, key: AttemptKey) -> bool:
        age_us = self._clock.now() - task.published_at
        return (
            task.publication == 1
            and -CLOCK_SLACK_US <= age_us < FRESH_US
            and delivery.delivered_count == 1
            and key not in self._settled
        )

    def _admit(self, held: Held) -> None:
        if self._held.admit(held):
            self._begin(held)

    def _begin(self, held: Held) -> None:
        handler = self._handlers.get(held.task.type)
        if handler is not None:
            self._running.begin(held, handler)

    def _drop(self, held: Held) -> None:
        self._metrics.verdicts.add("dropped")
        for delivery in held.deliveries:
            delivery.ack()
        self._forget(held)

    def _forget(self, held: Held) -> None:
        self._held.forget(held)
        self._settled[held.key] = None
        if len(self._settled) > SETTLED_MAX:
            self._settled.popitem(last=False)

    def _give_to_others(self, task: Task, delivery: Delivery) -> None:
        self._metrics.deliveries.add("unknown_type")
        log.warning("no handler for a task's type", node_type=task.type, node_id=task.node_id)
        delivery.nak(UNKNOWN_TYPE_DELAY_SECONDS * (0.5 + self._draw()))
