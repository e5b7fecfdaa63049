"""Executions as they stand: finished ones from their row, open ones folded from snapshot and history by `apply`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import orjson

from services.adapters.json_codec import JSON
from services.adapters.log import get_logger
from services.adapters.postgres.watching import WatchStore
from services.adapters.wire.executions import Blame, ShownExecution
from services.adapters.wire.finished import decode_stored_error
from services.adapters.wire.history import UnknownEvent, decode_events
from services.adapters.wire.snapshots import restore_snapshot
from services.api.batching import Batcher
from services.api.versions import Version, Versions
from services.core import views
from services.core.events import NodeSucceeded
from services.core.machine import apply
from services.core.records import ExecutionRecord, HistoryRow, NewExecution
from services.core.state import ExecutionInfo, ExecutionState, Values, new_execution
from services.core.states import IllegalTransition, NodeStatus
from services.core.units import KIB, MIB

# Histories that a list folds for its open executions; what is beyond is shown as the store knows it.
LIST_FOLD_BYTES_MAX = 2 * MIB
LIST_FOLD_STEP = 20
HISTORY_BYTES_GUESSED = 4 * KIB
QUARANTINED = "QUARANTINED"
_FOLDED_IN_LISTS = frozenset({"running", "failed", "cancelled", "timeout"})

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Folded:
    """An execution with its version and its state."""

    record: ExecutionRecord
    version: Version
    state: ExecutionState


def fresh_state(start: NewExecution, version: Version) -> ExecutionState:
    """State before the first event."""
    return new_execution(ExecutionInfo.of(start), version.workflow, Values(JSON, start.input or b""))


def fold(state: ExecutionState, rows: Iterable[HistoryRow]) -> None:
    """Bring a state further by rows that follow it."""
    for row in rows:
        if row.sequence <= state.sequence:
            continue
        for event in decode_events(row.events):
            apply(state, event, row.at)


def context_of(state: ExecutionState) -> bytes:
    """Variables as they stand: the first values, then what `set` nodes wrote, in topological order."""
    workflow = state.workflow
    written = [state.nodes[index].vars for index in workflow.order if state.nodes[index].vars]
    if not written:
        return workflow.initial_vars_json if workflow.initial_vars else b""
    merged = dict(workflow.initial_vars)
    for part in written:
        merged.update(orjson.loads(part))
    return orjson.dumps(merged)


class Reader:
    """Completes records; batches the queries of all who read at once."""

    def __init__(self, store: WatchStore, versions: Versions) -> None:
        self._store = store
        self._versions = versions
        self.histories = Batcher[tuple[bytes, int], list[HistoryRow]](self._read_histories)
        self._records = Batcher[bytes, ExecutionRecord](self._read_records)

    async def record(self, execution_id: bytes) -> ExecutionRecord | None:
        """The record of an execution whose organization the caller checks."""
        return await self._records.get(execution_id)

    async def folded(self, record: ExecutionRecord) -> Folded:
        """The execution with its state as it stands now."""
        version = await self._versions.by_id(record.start.version_id)
        state = fresh_state(record.start, version)
        if record.snapshot:
            restore_snapshot(state, record.snapshot)
        if not record.open:
            state.output = record.output or b""
            return Folded(record, version, state)
        try:
            while not state.status.final:
                rows = await self.histories.get((record.start.execution_id, state.sequence)) or []
                fold(state, rows)
                if not rows:
                    break
        except (IllegalTransition, UnknownEvent) as error:
            # A history that does not apply is quarantined by its owner; readers see it as far as its snapshot.
            log.warning(
                "history does not apply", execution_id=record.start.execution_id.hex(), error=str(error)
            )
            state = fresh_state(record.start, version)
            if record.snapshot:
                restore_snapshot(state, record.snapshot)
            record = replace(record, status_reason=QUARANTINED)
        return Folded(completed(record, state), version, state)

    async def shown(self, record: ExecutionRecord) -> ShownExecution:
        """Everything about one execution."""
        if record.open or record.error is not None or record.metrics is None:
            return show(await self.folded(record))
        version = await self._versions.by_id(record.start.version_id)
        if version.writes_vars:
            return show(await self.folded(record))
        context = version.workflow.initial_vars_json if version.workflow.initial_vars else b""
        return ShownExecution(record, context)

    async def shown_in_list(self, records: Sequence[ExecutionRecord], *, full: bool) -> list[ShownExecution]:
        """Executions of a page; those that run or failed are read whole as far as the page's bound allows."""
        if full:
            return [await self.shown(record) for record in records]
        wanted = [r.start.execution_id for r in records if r.status in _FOLDED_IN_LISTS]
        whole: dict[bytes, ExecutionRecord] = {}
        room = LIST_FOLD_BYTES_MAX
        while wanted and room > 0:
            some, wanted = wanted[:LIST_FOLD_STEP], wanted[LIST_FOLD_STEP:]
            for record in await asyncio.gather(*(self.record(execution_id) for execution_id in some)):
                if record is not None:
                    whole[record.start.execution_id] = record
                    room -= len(record.snapshot or b"") + len(record.output or b"") + HISTORY_BYTES_GUESSED
        return [
            await self.shown(whole[record.start.execution_id])
            if record.start.execution_id in whole
            else ShownExecution(record)
            for record in records
        ]

    async def outputs(self, state: ExecutionState, indices: Sequence[int]) -> dict[int, bytes]:
        """Outputs of nodes in SUCCESS, by node: read from the history rows that hold them."""
        wanted = {
            state.nodes[index].ended_sequence: index
            for index in indices
            if state.nodes[index].status is NodeStatus.SUCCESS
        }
        found: dict[int, bytes] = {}
        if wanted:
            asked = [(state.info.id, sequence) for sequence in wanted]
            for row in await self._store.rows_with(asked):
                for offset, event in enumerate(decode_events(row.events)):
                    place = wanted.get(row.sequence + offset)
                    if place is not None and isinstance(event, NodeSucceeded) and event.node == place:
                        found[place] = event.output
        return found

    async def _read_histories(
        self, wanted: list[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], list[HistoryRow]]:
        # One execution may be read from several places at once: rows are told apart by where they begin.
        found: dict[tuple[bytes, int], list[HistoryRow]] = {}
        rows = await self._store.history_after(wanted)
        by_execution: dict[bytes, list[HistoryRow]] = {}
        for row in rows:
            by_execution.setdefault(row.execution_id, []).append(row)
        for execution_id, after in wanted:
            seen: set[int] = set()
            mine = found[execution_id, after] = []
            for row in by_execution.get(execution_id, ()):
                if row.sequence > after and row.sequence not in seen:
                    seen.add(row.sequence)
                    mine.append(row)
            mine.sort(key=lambda row: row.sequence)
            _drop_after_gap(mine, after)
        return found

    async def _read_records(self, execution_ids: list[bytes]) -> dict[bytes, ExecutionRecord]:
        return {record.start.execution_id: record for record in await self._store.records(execution_ids)}


def _drop_after_gap(rows: list[HistoryRow], after: int) -> None:
    """Rows that were asked for from further on may leave a hole: keep what follows without one."""
    expected = after + 1
    for index, row in enumerate(rows):
        if row.sequence != expected:
            del rows[index:]
            return
        expected = row.last_sequence + 1


def completed(record: ExecutionRecord, state: ExecutionState) -> ExecutionRecord:
    """The record of an execution that was open when it was read, with what its state knows."""
    counts = views.metrics(state)
    status_reason = record.status_reason or state.status_reason
    return replace(
        record,
        open=not state.status.final,
        status=state.status.word,
        status_reason="" if state.status.final else status_reason,
        output=state.output or None,
        started_at=state.started_at or None,
        completed_at=state.ended_at or None,
        nodes_executed=counts.nodes_executed,
        nodes_failed=counts.nodes_failed,
        sequence=state.sequence,
    )


def show(folded: Folded) -> ShownExecution:
    """What is shown of a folded execution."""
    record, state = folded.record, folded.state
    error = state.error
    if error is None and record.error is not None:
        error = decode_stored_error(record.error)
    blame = None
    if error is not None:
        blame = Blame(error, requested_by=state.cancelled_by)
        if error.node >= 0:
            run = views.node_run(state, error.node)
            blame = Blame(error, run.id, run.attempt, run.max_attempts, state.cancelled_by)
    return ShownExecution(record, context_of(state), blame, views.metrics(state))
