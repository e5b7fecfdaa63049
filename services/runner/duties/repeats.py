"""Repeats what nobody answered: results without a verdict, asks without an answer."""

from __future__ import annotations

from services.adapters.lifecycle import Duty
from services.adapters.metrics import DutyMetrics
from services.runner.asks import Asks
from services.runner.metrics import RunnerMetrics
from services.runner.outbox import Outbox

INTERVAL_SECONDS = 0.25


class Repeats:
    """Looks after the open ends."""

    def __init__(self, outbox: Outbox, asks: Asks, metrics: RunnerMetrics) -> None:
        self._outbox = outbox
        self._asks = asks
        self._metrics = metrics

    async def run_once(self) -> dict[str, int]:
        """Send again what is due; how many of each."""
        results, asks = self._outbox.repeat_due(), self._asks.repeat_due()
        self._metrics.repeated.inc(results)
        self._metrics.asked_again.inc(asks)
        return {"results": results, "asks": asks}

    def duty(self, metrics: DutyMetrics) -> Duty:
        """The background loop."""
        return Duty("repeats", self.run_once, INTERVAL_SECONDS, metrics=metrics)
