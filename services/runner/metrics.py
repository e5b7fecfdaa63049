"""Metrics of a runner."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from services.adapters.metrics import NODE_SECONDS, counter, gauge
from services.core.errors import CANCELLED
from services.core.tasks import Failure
from services.runner.held import Held, HeldTasks
from services.runner.tallies import Durations, Tally

SUCCESS, FAILED, CANCELLED_WORD, RETURNED = "success", "failed", "cancelled", "returned"


class RunnerMetrics:
    """What a runner counts."""

    def __init__(self, registry: CollectorRegistry, held: HeldTasks) -> None:
        self.attempts = Tally(
            registry,
            "weconnect_runner_attempts_total",
            "Attempts by node type and outcome: success, failed, cancelled, returned.",
            ["node_type", "outcome"],
        )
        self._seconds = Durations(
            registry,
            "weconnect_runner_attempt_seconds",
            "Duration of attempts by node type.",
            "node_type",
            NODE_SECONDS,
        )
        self.deliveries = Tally(
            registry,
            "weconnect_runner_deliveries_total",
            "Deliveries by what became of them: fresh, asked, doubled, unknown_type, malformed, draining.",
            ["kind"],
        )
        self.verdicts = Tally(
            registry,
            "weconnect_runner_verdicts_total",
            "Verdicts of owners: counted, stale, dropped.",
            ["verdict"],
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

    def watch(self, unconfirmed: Callable[[], int], open_asks: Callable[[], int]) -> None:
        """Where the gauges read from."""
        self._unconfirmed.set_function(unconfirmed)
        self._open_asks.set_function(open_asks)

    def attempt_ended(self, held: Held, outcome: bytes | Failure | None, seconds: float) -> None:
        """An attempt was reported."""
        if isinstance(outcome, bytes):
            word = SUCCESS
        elif outcome is None:
            word = RETURNED
        else:
            word = CANCELLED_WORD if outcome.type == CANCELLED else FAILED
        self.attempts.add(held.task.type, word)
        self._seconds.observe(held.task.type, seconds)
