"""Brings executions into memory: open row, snapshot, history since, and the outputs that expressions refer to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.adapters.clock import Clock
from services.adapters.json_codec import JSON
from services.adapters.log import get_logger
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.wire.history import decode_events
from services.adapters.wire.snapshots import restore_snapshot
from services.core.graph import CompiledWorkflow
from services.core.machine import apply
from services.core.records import HistoryRow, OpenExecution
from services.core.state import ExecutionInfo, ExecutionState, Values, new_execution
from services.core.states import ACTIVE, ExecutionStatus
from services.core.units import SECOND
from services.scheduler.live import InFlight, Left, Live, LiveTable
from services.scheduler.versions import VersionCache

log = get_logger(__name__)

# How far apart the clocks of two processes may be; each follows the database's.
CLOCK_MARGIN_US = 10 * SECOND


class Loader:
    """Loads executions and notes what is out with runners, as far as history tells."""

    def __init__(
        self,
        clock: Clock,
        rows: ExecutionStore,
        workflows: VersionCache,
        live: LiveTable,
        loaded: Callable[[Live], None],
        owned_since: Callable[[bytes], int] | None = None,
    ) -> None:
        self._clock = clock
        self._rows = rows
        self._workflows = workflows
        self._live = live
        self._loaded = loaded
        self._owned_since = owned_since
        self._distrusts = False
        # Executions that were in memory and are still open: they may have a history.
        self.forgotten: set[bytes] = set()
        self._broken: dict[bytes, str] = {}
        # Quarantined rows that somebody asked for in this batch.
        self.held: dict[bytes, OpenExecution] = {}

    def distrust(self) -> None:
        """Read every history from now on: instants have told an execution for new that was not."""
        self._distrusts = True

    def take_broken(self) -> dict[bytes, str]:
        """Executions whose histories do not apply, each with why: the next commit quarantines them."""
        broken, self._broken = self._broken, {}
        return broken

    async def load(self, execution_ids: Sequence[bytes]) -> None:
        """Load executions by id; those that are not open, or quarantined, stay absent."""
        with self._live.watched() as left:
            await self.load_rows(await self._rows.by_ids(execution_ids), left)

    async def load_rows(self, rows: Sequence[OpenExecution], left: Left) -> None:
        """Load executions whose open rows were read already: one query for histories, one for unknown versions.

        `left` is of `LiveTable.watched`, from before the rows were read: what was in memory and has left since may
        have ended, or be somebody else's, and a state from older rows would have us fenced. It is found again if it
        is still open and ours.
        """
        for row in rows:
            if row.quarantine is not None:
                self.held[row.start.execution_id] = row
        rows = [row for row in rows if row.quarantine is None and row.start.execution_id not in self._live]
        if not rows:
            return
        workflows = await self._workflows.get({row.start.version_id for row in rows})
        histories: dict[bytes, list[HistoryRow]] = {}
        begun = [(row.start.execution_id, row.sequence) for row in rows if not self._is_new(row)]
        for part in await self._rows.history_after(begun) if begun else ():
            histories.setdefault(part.execution_id, []).append(part)
        for row in rows:
            execution_id = row.start.execution_id
            if execution_id in self._live or execution_id in left:
                continue
            workflow = workflows.get(row.start.version_id)
            if workflow is None:
                self._broken[execution_id] = "its version cannot be compiled"
                continue
            try:
                self._fold(row, workflow, histories.get(execution_id, []))
            except Exception as error:  # one corrupt history must not keep the others from their owner
                log.error("cannot be loaded", execution_id=execution_id.hex(), exc_info=error)
                self._broken[execution_id] = f"cannot be loaded: {type(error).__name__}: {error}"

    def _is_new(self, row: OpenExecution) -> bool:
        """Whether nobody can have begun it: accepted since the shard is ours, and never in our memory.

        Should a clock be wrong by more than the margin, the history's key refuses the first event and we are fenced:
        once, for from then on histories are read (see `distrust`).
        """
        if self._owned_since is None or self._distrusts or row.snapshot is not None or row.asleep:
            return False
        execution_id = row.start.execution_id
        if execution_id in self.forgotten:
            return False
        return row.start.created_at > self._owned_since(execution_id) + CLOCK_MARGIN_US

    def _fold(self, row: OpenExecution, workflow: CompiledWorkflow, history: list[HistoryRow]) -> None:
        state = new_execution(ExecutionInfo.of(row.start), workflow, Values(JSON, row.start.input or b""))
        if row.snapshot is not None:
            restore_snapshot(state, row.snapshot)
        written = 0
        for part in history:
            written += len(part.events)
            for event in decode_events(part.events):
                apply(state, event, part.at)
        if state.status.final:
            return
        live = Live(state, asleep=row.asleep, snapshot_bytes=len(row.snapshot or b""), history_bytes=written)
        self._note_flights(live)
        self._live[live.id] = live
        self._loaded(live)

    async def load_bare(self, row: OpenExecution) -> None:
        """Load a quarantined execution without folding its history: all that can be done with it is to end it.

        One whose version cannot be compiled stays held.
        """
        workflow = (await self._workflows.get([row.start.version_id])).get(row.start.version_id)
        if workflow is None:
            return
        del self.held[row.start.execution_id]
        state = new_execution(ExecutionInfo.of(row.start), workflow, Values(JSON, row.start.input or b""))
        for part in await self._rows.history_after([(row.start.execution_id, 0)]):
            state.sequence = part.last_sequence
            state.started_at = state.started_at or part.at
            state.status = ExecutionStatus.RUNNING
        live = Live(state, asleep=row.asleep)
        self._live[live.id] = live

    def _note_flights(self, live: Live) -> None:
        """Attempts that may be with a runner: nothing counts as lost for one lease from now."""
        if not live.state.active:
            return
        now = self._clock.now()
        for index, node in enumerate(live.state.nodes):
            if node.status in ACTIVE:
                live.in_flight[index] = InFlight(node.attempt, now, node.runner_id, 1)

    async def load_outputs(self, bare: Sequence[Live]) -> None:
        """Fill the outputs that expressions may refer to, in one query for all."""
        wanted: dict[tuple[bytes, int], tuple[ExecutionState, int]] = {}
        for live in bare:
            for node, sequence in live.state.missing_outputs():
                wanted[live.id, sequence] = (live.state, node)
        if wanted:
            for row in await self._rows.rows_with(list(wanted)):
                for offset, event in enumerate(decode_events(row.events)):
                    place = wanted.get((row.execution_id, row.sequence + offset))
                    if place is not None:
                        place[0].values.put(place[1], getattr(event, "output", b""))
        for live in bare:
            live.state.values.complete = True
