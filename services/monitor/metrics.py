"""Metrics of the monitor: what it counted, as counters, and how far it is."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from services.adapters.metrics import Children, counter, gauge
from services.core.rollups import ExecutionRollup, NodeRollup
from services.monitor.folding import STARTED


class MonitorMetrics:
    """Counted after the transaction that moved the cursors, so never twice in one process's life."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.applied = counter(registry, "weconnect_monitor_commits_total", "Commits that were rolled up.")
        self.behind = gauge(
            registry, "weconnect_monitor_lag_seconds", "Age of the newest commit when it was rolled up."
        )
        self._executions = Children[Counter](
            counter(
                registry,
                "weconnect_executions_total",
                "Executions that started or ended, by mode and status (`started` for starts).",
                ["mode", "status"],
            )
        )
        self._nodes = Children[Counter](
            counter(
                registry,
                "weconnect_node_runs_total",
                "Node runs and attempts by outcome.",
                ["node_type", "outcome"],
            )
        )
        self._execution_seconds = Children[Counter](
            counter(
                registry,
                "weconnect_executions_duration_seconds_total",
                "Time that ended executions took in all, by status.",
                ["status"],
            )
        )

    def count(self, executions: Iterable[ExecutionRollup], nodes: Iterable[NodeRollup]) -> None:
        """Add what was just rolled up."""
        for row in executions:
            self._executions.of(row.mode, row.status).inc(row.count)
            if row.status != STARTED:
                self._execution_seconds.of(row.status).inc(row.duration_sum_us / 1_000_000)
        for node in nodes:
            for outcome in ("succeeded", "failed", "timed_out", "retried", "lost"):
                number = getattr(node, outcome)
                if number:
                    self._nodes.of(node.node_type, outcome).inc(number)
