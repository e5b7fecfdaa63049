"""What api counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from services.adapters.metrics import BATCH_SIZES, COMMIT_SECONDS, Children, counter, gauge, histogram


class ApiMetrics:
    """Metrics of one api process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.started = Children[Counter](
            counter(registry, "weconnect_executions_started_total", "Executions accepted.", ["mode"])
        )
        self.existing = counter(
            registry, "weconnect_executions_existing_total", "Starts that an idempotency key answered."
        )
        self.refused = Children[Counter](
            counter(registry, "weconnect_starts_refused_total", "Starts that were refused.", ["reason"])
        )
        self.commands = Children[Counter](
            counter(registry, "weconnect_commands_accepted_total", "Commands recorded.", ["kind"])
        )
        self.batch_seconds = histogram(
            registry,
            "weconnect_start_batch_seconds",
            "Time a group insert of executions took.",
            buckets=COMMIT_SECONDS,
        )
        self.batch_rows = histogram(
            registry, "weconnect_start_batch_items", "Executions in a group insert.", buckets=BATCH_SIZES
        )
        self.hints = counter(registry, "weconnect_commit_hints_total", "Commit hints heard.")
        self.hint_gaps = counter(
            registry, "weconnect_commit_hint_gaps_total", "Commit hints missed, as their numbers show."
        )
        self.swept = Children[Counter](
            counter(
                registry,
                "weconnect_silent_reads_total",
                "Ends, changes and verdicts that were found without a hint.",
                ["kind"],
            )
        )
        self.watched = gauge(
            registry, "weconnect_watched_executions_items", "Executions watched or waited for."
        )
        self.watch_messages = counter(
            registry, "weconnect_watch_messages_total", "Messages sent to watchers."
        )

    def batch(self, rows: int, seconds: float) -> None:
        """A group insert of executions was committed."""
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)
