"""Waiting is cheap: executions with nothing out are put down, and woken when they are due."""

from __future__ import annotations

from collections.abc import Callable

from services.adapters.clock import Clock
from services.adapters.postgres.executions import ExecutionStore
from services.core.inputs import TimersDue
from services.core.states import ExecutionStatus
from services.core.units import MIB, SECOND
from services.scheduler.alarm import Alarm
from services.scheduler.batch import Batch
from services.scheduler.items import Item
from services.scheduler.live import Live, LiveTable
from services.scheduler.loading import Loader

# An execution that wakes sooner than this stays in memory.
NAP_US = 10 * SECOND
PUT_DOWN_MAX = 500
WAKE_MAX = 500
# Outputs kept in memory for later expressions, for all executions together.
VALUES_BYTES_MAX = 256 * MIB


class Sleep:
    """Puts down, wakes, and keeps the memory of values bounded."""

    def __init__(
        self,
        clock: Clock,
        rows: ExecutionStore,
        loader: Loader,
        live: LiveTable,
        owned: set[int],
        alarm: Alarm,
        put: Callable[[Item], None],
        prepare: Callable[[Callable[[Batch], None]], None],
    ) -> None:
        self._clock = clock
        self._rows = rows
        self._loader = loader
        self._live = live
        self._owned = owned
        self._alarm = alarm
        self._put = put
        self._prepare = prepare

    async def put_down(self) -> dict[str, int]:
        """Put down what has nothing out and does not wake soon; forget values beyond the bound."""
        horizon = self._clock.now() + NAP_US
        idle: list[Live] = []
        held = 0
        for live in self._live.values():
            held += live.state.values.bytes_held
            if live.idle and self._may_rest(live, horizon) and len(idle) < PUT_DOWN_MAX:
                idle.append(live)
        if idle:
            self._prepare(lambda batch: self._add(batch, idle, horizon))
        evicted = self._evict(held - VALUES_BYTES_MAX)
        return {"put_down": len(idle), "evicted": evicted}

    @staticmethod
    def _may_rest(live: Live, horizon: int) -> bool:
        state = live.state
        return (
            state.status is ExecutionStatus.RUNNING
            and not state.active
            and not state.ready_local
            and not state.ready_tasks
            and not state.grace_until
            and live.wake_at > horizon
        )

    def _add(self, batch: Batch, idle: list[Live], horizon: int) -> None:
        """At the batch's time: those that nothing has happened to since."""
        for live in idle:
            untouched = live.id not in batch.changes and self._live.get(live.id) is live
            if untouched and live.idle and self._may_rest(live, horizon):
                batch.change(live).put_down = True

    def _evict(self, excess: int) -> int:
        """Forget outputs of executions without a task that waits for its dispatch."""
        evicted = 0
        for live in self._live.values():
            if excess <= 0:
                break
            values = live.state.values
            if values.complete and values.outputs and not live.waiting:
                excess -= values.bytes_held - len(values.input_json)
                values.evict()
                evicted += 1
        return evicted

    async def wake(self) -> dict[str, int]:
        """Bring sleepers that are due into memory."""
        if not self._owned:
            return {}
        with self._live.watched() as left:
            rows = await self._rows.due(sorted(self._owned), WAKE_MAX)
            missing = [row for row in rows if row.start.execution_id not in self._live]
            if missing:
                await self._loader.load_rows(missing, left)
        for row in missing:
            self._put(Item(row.start.execution_id, TimersDue()))
        return {"woken": len(missing)}

    async def timers(self) -> dict[str, int]:
        """Queue the executions in memory whose time has come, should the alarm have failed to ring."""
        return {"due": self._alarm.ring()}
