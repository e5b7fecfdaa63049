"""The scheduler's rows in memory: the fence, histories, open and finished executions, the inbox.

For tests and simulations. It keeps the promises that `adapters.postgres` keeps: a commit is all or nothing, a
number is used once, an execution's sequence is written once. What comes of each commit is decided by a gate, so a
test may hold it, refuse it, or lose it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from services.core.ids import shard_of
from services.core.ports import CommitBatch, Committed, Fenced, Outcome
from services.core.records import (
    CommandRow,
    FinishedExecution,
    HistoryRow,
    NewExecution,
    OpenExecution,
    SnapshotRow,
    VersionRow,
)

# Asked before each commit: None lets it be made, an outcome stands in its place (nothing is kept then).
Gate = Callable[[CommitBatch], Awaitable[Outcome | None]]


class MemoryStore:
    """Rows that several sessions share."""

    def __init__(self) -> None:
        self.open: dict[bytes, OpenExecution] = {}
        self.finished: dict[bytes, FinishedExecution] = {}
        self.history: dict[tuple[bytes, int], HistoryRow] = {}
        self.commits: dict[tuple[int, int], CommitBatch] = {}
        self.commands: dict[bytes, CommandRow] = {}
        self.version_rows: dict[bytes, VersionRow] = {}
        self.closed: set[int] = set()

    def accept(self, start: NewExecution) -> None:
        """What api does: an open execution."""
        self.open[start.execution_id] = OpenExecution(start, False, None, 0, None, None)

    def commit(self, batch: CommitBatch) -> Outcome:
        """All of a batch, or nothing."""
        if (batch.session, batch.number) in self.commits or batch.session in self.closed:
            return Fenced("commits_pkey")
        if any((row.execution_id, row.sequence) in self.history for row in batch.history):
            return Fenced("execution_history_pkey")
        self.commits[batch.session, batch.number] = batch
        for row in batch.history:
            self.history[row.execution_id, row.sequence] = row
        for finished in batch.ends:
            if self.open.pop(finished.execution_id, None) is not None:
                self.finished[finished.execution_id] = finished
        for snapshot in batch.snapshots:
            self._put_down(snapshot)
        for execution_id in batch.wakes:
            self.open[execution_id] = replace(self.open[execution_id], asleep=False, wake_at=None)
        for execution_id, why in batch.quarantines:
            self.open[execution_id] = replace(
                self.open[execution_id], quarantine=why, asleep=why is not None, wake_at=None
            )
        for verdict in batch.verdicts:
            command = self.commands[verdict.command_id]
            self.commands[verdict.command_id] = replace(
                command, verdict=verdict.verdict, verdict_body=verdict.body
            )
        return Committed(0, tuple(batch.take_overs), tuple(shard for shard, _ in batch.hand_overs))

    def _put_down(self, row: SnapshotRow) -> None:
        self.open[row.execution_id] = replace(
            self.open[row.execution_id],
            asleep=row.asleep,
            wake_at=row.wake_at,
            sequence=row.sequence,
            snapshot=row.snapshot,
        )

    async def by_ids(self, execution_ids: Sequence[bytes]) -> list[OpenExecution]:
        """Open rows of these executions."""
        return [self.open[i] for i in execution_ids if i in self.open]

    async def awake(
        self, shards: Sequence[int], limit: int, after: OpenExecution | None = None
    ) -> list[OpenExecution]:
        """Open rows of the shards that are not asleep, by (shard, id)."""
        last = (after.start.execution_id[15], after.start.execution_id) if after else (-1, b"")
        rows = [
            row for i, row in self.open.items()
            if not row.asleep and shard_of(i) in shards and (i[15], i) > last
        ]  # fmt: skip
        return sorted(rows, key=lambda row: (row.start.execution_id[15], row.start.execution_id))[:limit]

    async def history_after(self, wanted: Sequence[tuple[bytes, int]]) -> list[HistoryRow]:
        """Rows that begin after the given sequence."""
        after = dict(wanted)
        rows = [row for (i, first), row in self.history.items() if i in after and first > after[i]]
        return sorted(rows, key=lambda row: (row.execution_id, row.sequence))

    async def rows_with(self, wanted: Sequence[tuple[bytes, int]]) -> list[HistoryRow]:
        """The row that holds each (execution, sequence)."""
        return [
            row
            for row in self.history.values()
            if any(i == row.execution_id and row.sequence <= s <= row.last_sequence for i, s in wanted)
        ]

    async def unanswered_commands(self, shards: Sequence[int], limit: int) -> list[CommandRow]:
        """Commands of the shards without a verdict."""
        rows = [row for row in self.commands.values() if row.verdict is None]
        return [row for row in rows if shard_of(row.command.execution_id) in shards][:limit]

    async def versions(self, version_ids: Sequence[bytes]) -> list[VersionRow]:
        """Versions by id."""
        return [self.version_rows[i] for i in version_ids if i in self.version_rows]


class MemoryCommits:
    """`ports.Commits` of one session over a shared store."""

    def __init__(self, store: MemoryStore, gate: Gate | None = None) -> None:
        self._store = store
        self.gate = gate

    async def commit(self, batch: CommitBatch) -> Outcome:
        """Commit, unless the gate says otherwise."""
        if self.gate is not None:
            instead = await self.gate(batch)
            if instead is not None:
                return instead
        return self._store.commit(batch)

    async def close(self) -> None:
        """Nothing to let go of."""
