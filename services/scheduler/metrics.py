"""Metrics of the scheduler."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from services.adapters.metrics import BATCH_SIZES, COMMIT_SECONDS, Children, counter, gauge, histogram
from services.core.events import AttemptLost, ExecutionEnded, NodeFailed, NodeRetrying, NodeSucceeded
from services.scheduler.batch import Batch

_NODE_OUTCOMES = {
    NodeSucceeded: "succeeded",
    NodeFailed: "failed",
    NodeRetrying: "retried",
    AttemptLost: "lost",
}


class SchedulerMetrics:
    """Commits, executions, nodes, queues, leases and repairs, as this scheduler sees them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.commit_seconds = histogram(
            registry, "weconnect_commit_seconds", "Time of a group commit.", buckets=COMMIT_SECONDS
        )
        self.commit_events = histogram(
            registry, "weconnect_commit_events_items", "Events in a group commit.", buckets=BATCH_SIZES
        )
        self.outcomes = Children[Counter](
            counter(registry, "weconnect_commits_total", "Group commits by outcome.", ["outcome"])
        )
        self.ended = Children[Counter](
            counter(
                registry, "weconnect_executions_ended_total", "Executions that ended.", ["status", "mode"]
            )
        )
        self.nodes = Children[Counter](
            counter(
                registry, "weconnect_node_attempts_total", "Attempts by what became of them.", ["outcome"]
            )
        )
        self.quarantined = counter(
            registry, "weconnect_quarantines_total", "Executions held because the core failed on them."
        )
        self.repairs = Children[Counter](
            counter(registry, "weconnect_repairs_total", "What continuous repair had to mend.", ["kind"])
        )
        self.shards = gauge(registry, "weconnect_shards_owned", "Shards that this scheduler owns.")
        self.open = gauge(registry, "weconnect_executions_loaded", "Open executions in memory.")
        self.queue_depth = gauge(
            registry, "weconnect_queue_depth", "Attempts that wait behind the dispatch window.", ["queue"]
        )
        self.queue_out = gauge(
            registry, "weconnect_queue_out", "Attempts published and unfinished.", ["queue"]
        )
        self.events = 0
        self.commits = 0
        self.ends = 0
        self.last_events = 0
        self.last_executions = 0

    def committed(self, executions: int, batch: Batch) -> None:
        """Count a commit and what was in it."""
        events = 0
        for change in batch.changes.values():
            events += len(change.events)
            for event in change.events:
                outcome = _NODE_OUTCOMES.get(type(event))
                if outcome is not None:
                    self.nodes.of(outcome).inc()
                elif type(event) is ExecutionEnded:
                    self.ends += 1
                    self.ended.of(event.status, change.live.state.info.mode).inc()
        self.outcomes.of("committed").inc()
        self.commit_events.observe(events)
        held = sum(1 for why in batch.quarantines.values() if why is not None)
        if held:
            self.quarantined.inc(held)
        self.events += events
        self.commits += 1
        self.last_events, self.last_executions = events, executions
