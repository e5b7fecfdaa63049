"""Metrics of a runner; children are looked up once."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.adapters.metrics import NODE_SECONDS, Children, counter, gauge, histogram
from services.core.errors import CANCELLED
from services.core.tasks import Failure
from services.runner.held import Held, HeldTasks


class RunnerMetrics:
    """What a runner counts."""

    def __init__(self, registry: CollectorRegistry, held: HeldTasks) -> None:
        self.succeeded = self.failed = self.cancelled = self.dropped = 0
        self._attempts = Children[Counter](
            counter(registry, "weconnect_runner_attempts_total", "Attempts by node type and outcome: success, failed, cancelled, returned.",
                    ["node_type", "outcome"])
        )  # fmt: skip
        self._seconds = Children[Histogram](
            histogram(registry, "weconnect_runner_attempt_seconds", "Duration of attempts by node type.",
                      ["node_type"], buckets=NODE_SECONDS)
        )  # fmt: skip
        self._deliveries = Children[Counter](
            counter(registry, "weconnect_runner_deliveries_total",
                    "Deliveries by what became of them: fresh, asked, doubled, unknown_type, malformed, draining.",
                    ["kind"])
        )  # fmt: skip
        self._verdicts = Children[Counter](
            counter(
                registry, "weconnect_runner_verdicts_total", "Verdicts: counted, stale, dropped.", ["verdict"]
            )
        )
        self.repeated = counter(
            registry, "weconnect_runner_results_repeated_total", "Results sent again for want of a verdict."
        )
        self.asked_again = counter(
            registry, "weconnect_runner_asks_repeated_total", "Asks sent again for want of an answer."
        )
        slots = gauge(registry, "weconnect_runner_slots", "Slots by state.", ["state"])
        slots.labels("total").set_function(lambda: held.slots)
        slots.labels("running").set_function(lambda: held.running)
        slots.labels("abandoned").set_function(lambda: held.abandoned)
        gauge(
            registry, "weconnect_runner_held_tasks", "Tasks in hand, results without verdict among them."
        ).set_function(lambda: len(held.by_key))
        self._unconfirmed = gauge(
            registry, "weconnect_runner_unconfirmed_results", "Results without a verdict."
        )
        self._open_asks = gauge(registry, "weconnect_runner_open_asks", "Asks without an answer.")

    def attempt_ended(self, held: Held, outcome: bytes | Failure | None, seconds: float) -> None:
        """An attempt was reported."""
        kind = held.task.type
        if isinstance(outcome, bytes):
            word = "success"
            self.succeeded += 1
        elif outcome is None:
            word = "returned"
        elif outcome.type == CANCELLED:
            word = "cancelled"
            self.cancelled += 1
        else:
            word = "failed"
            self.failed += 1
        self._attempts.of(kind, word).inc()
        self._seconds.of(kind).observe(seconds)

    def delivered(self, kind: str) -> None:
        """A delivery came."""
        self._deliveries.of(kind).inc()

    def verdict(self, word: str) -> None:
        """An owner decided about a result (counted, stale) or a delivery (dropped)."""
        self._verdicts.of(word).inc()
        if word == "dropped":
            self.dropped += 1

    def watch(self, unconfirmed: Callable[[], int], open_asks: Callable[[], int]) -> None:
        """Where the gauges read from."""
        self._unconfirmed.set_function(unconfirmed)
        self._open_asks.set_function(open_asks)
