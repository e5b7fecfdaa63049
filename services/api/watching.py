"""One watch: every change in its order, from rows alone; a client that comes back goes on where it stopped.

Memory is bounded: a watcher that does not read asks for nothing, and what happened meanwhile comes in the next
messages, many changes in each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field

from services.adapters.clock import Clock
from services.adapters.postgres.watching import LOG_LINES_MAX, WatchStore
from services.adapters.wire.executions import ShownExecution
from services.adapters.wire.history import decode_events
from services.adapters.wire.snapshots import restore_snapshot
from services.api.batching import Batcher
from services.api.changes import Change, changes_of
from services.api.reading import Folded, Reader, completed, fresh_state, show
from services.api.versions import Version, Versions
from services.api.watches import Subscription, Watches
from services.core import views
from services.core.errors import Problem
from services.core.machine import apply
from services.core.records import ExecutionRecord, HistoryRow, LogRow
from services.core.refusals import invalid
from services.core.state import ExecutionState
from services.core.units import KIB
from services.core.views import ProgressView

HEARTBEAT_SECONDS = 15.0
# A message is sent when it has grown to this; the rest follows in the next.
CHANGES_MAX = 1_000
CHANGE_BYTES_MAX = 512 * KIB
CHANGE_BYTES_GUESSED = 96


@dataclass(frozen=True, slots=True)
class Update:
    """One message of a watch. `ended` only in the final one; `progress` is that at `sequence`."""

    sequence: int
    log_sequence: int
    at: int
    status: str
    status_reason: str
    progress: ProgressView
    changes: list[Change] = field(default_factory=list)
    logs: list[LogRow] = field(default_factory=list)
    heartbeat: bool = False
    ended: ShownExecution | None = None


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What a client wants to see, and from where on."""

    after_sequence: int = 0
    include_logs: bool = False
    after_log_sequence: int = 0


class Watching:
    """Makes the updates of watches; shares its queries among all of them."""

    def __init__(
        self, clock: Clock, store: WatchStore, reader: Reader, versions: Versions, watches: Watches
    ) -> None:
        self._clock = clock
        self._store = store
        self._reader = reader
        self._versions = versions
        self._watches = watches
        self._logs = Batcher[tuple[bytes, int], list[LogRow]](self._read_logs)

    async def watch(self, record: ExecutionRecord, wanted: WatchRequest) -> AsyncIterator[Update]:
        """Updates of an execution until it has ended. The caller has checked the organization."""
        version = await self._versions.by_id(record.start.version_id)
        execution_id = record.start.execution_id
        with self._watches.subscribe(execution_id, logs=wanted.include_logs) as subscription:
            watch = _Watch(record, version, wanted)
            shown = False
            while True:
                subscription.clear()
                rows = await self._reader.histories.get((execution_id, watch.state.sequence)) or []
                for update in watch.apply(rows):
                    shown = True
                    yield update
                subscription.sequence = watch.state.sequence
                if rows:
                    continue
                if wanted.after_sequence > watch.state.sequence:
                    message = f"the history ends at {watch.state.sequence}"
                    raise invalid([Problem("after_sequence", "OUT_OF_RANGE", message)])
                async for update in self._lines(watch):
                    shown = True
                    yield update
                if watch.state.status.final:
                    yield watch.final()
                    return
                if not shown:
                    shown = True
                    yield watch.update(self._clock.now())
                if not await self._silent(subscription):
                    yield watch.update(self._clock.now(), heartbeat=True)

    async def _silent(self, subscription: Subscription) -> bool:
        return await subscription.wait(HEARTBEAT_SECONDS)

    async def _lines(self, watch: _Watch) -> AsyncIterator[Update]:
        while watch.include_logs:
            lines = await self._logs.get((watch.record.start.execution_id, watch.log_sequence)) or []
            if lines:
                watch.log_sequence = lines[-1].sequence
                yield watch.update(lines[-1].at, logs=lines)
            if len(lines) < LOG_LINES_MAX:
                return

    async def _read_logs(self, wanted: list[tuple[bytes, int]]) -> dict[tuple[bytes, int], list[LogRow]]:
        found: dict[tuple[bytes, int], list[LogRow]] = {key: [] for key in wanted}
        lines = await self._store.logs_after(wanted)
        for execution_id, after in wanted:
            mine = {
                line.sequence: line
                for line in lines
                if line.execution_id == execution_id and line.sequence > after
            }
            found[execution_id, after] = _dense(mine, after)
        return found


class _Watch:
    """The state that a watcher has been shown."""

    def __init__(self, record: ExecutionRecord, version: Version, wanted: WatchRequest) -> None:
        self.record = record
        self.version = version
        self.include_logs = wanted.include_logs
        self.log_sequence = wanted.after_log_sequence
        self._after = wanted.after_sequence
        self.state: ExecutionState = fresh_state(record.start, version)
        if record.snapshot and record.sequence <= wanted.after_sequence:
            restore_snapshot(self.state, record.snapshot)
            self.state.output = record.output or b""

    def apply(self, rows: Iterable[HistoryRow]) -> Iterator[Update]:
        """Apply rows that follow; updates with what changed after the sequence the client has seen."""
        changes: list[Change] = []
        size, at = 0, 0
        changed = False
        for row in rows:
            at = row.at
            for event in decode_events(row.events):
                apply(self.state, event, row.at)
                if self.state.sequence <= self._after:
                    continue
                changed = True
                for change in changes_of(self.state, event, row.at):
                    changes.append(change)
                    size += CHANGE_BYTES_GUESSED
                    if change.error is not None:
                        size += len(change.error.message) + len(change.error.details)
                if len(changes) >= CHANGES_MAX or size >= CHANGE_BYTES_MAX:
                    yield self.update(at, changes=changes)
                    changes, size, changed = [], 0, False
        if changed:
            yield self.update(at, changes=changes)

    def update(
        self,
        at: int,
        *,
        changes: list[Change] | None = None,
        logs: list[LogRow] | None = None,
        heartbeat: bool = False,
        ended: ShownExecution | None = None,
    ) -> Update:
        """Where the execution stands, and what is new."""
        state = self.state
        return Update(
            state.sequence,
            self.log_sequence if self.include_logs else 0,
            at,
            state.status.word,
            state.status_reason,
            views.progress(state),
            changes or [],
            logs or [],
            heartbeat,
            ended,
        )

    def final(self) -> Update:
        """The last message."""
        record = completed(self.record, self.state)
        folded = Folded(record, self.version, self.state)
        return self.update(self.state.ended_at, ended=show(folded))


def _dense(lines: dict[int, LogRow], after: int) -> list[LogRow]:
    """Lines that follow without a hole: an answer to another's question may have left one."""
    found: list[LogRow] = []
    while (line := lines.get(after + 1)) is not None:
        found.append(line)
        after += 1
    return found[:LOG_LINES_MAX]
