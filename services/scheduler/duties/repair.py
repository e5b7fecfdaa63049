"""Continuous repair: every message can be recomputed from rows, and is, while the scheduler runs.

Finds what hints that got lost would have said: accepted executions nobody began, leases that ended, tasks that no
longer are anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from services.adapters.bus import BusError, StreamState, TaskPublisher
from services.adapters.clock import Clock
from services.adapters.postgres.executions import ExecutionStore
from services.core.inputs import Begin
from services.core.states import ExecutionStatus
from services.core.units import SECOND
from services.scheduler.dispatch import Dispatcher
from services.scheduler.items import Item
from services.scheduler.live import InFlight, Live, LiveTable
from services.scheduler.loading import Loader
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.runners import Runners

# A task of ours that nobody has been heard of for 2 × AckWait may be lost.
SILENT_US = 30 * SECOND
# A task that another owner may have published is silent once a whole beat of every runner has passed.
UNCERTAIN_US = 6 * SECOND
PAGE = 500


class Repair:
    """Compares memory with rows and with the work queue, and queues what is missing."""

    def __init__(
        self,
        clock: Clock,
        rows: ExecutionStore,
        loader: Loader,
        live: LiveTable,
        owned: set[int],
        dispatcher: Dispatcher,
        runners: Runners,
        publisher: TaskPublisher,
        put: Callable[[Item], None],
        metrics: SchedulerMetrics,
    ) -> None:
        self._clock = clock
        self._rows = rows
        self._loader = loader
        self._live = live
        self._owned = owned
        self._dispatcher = dispatcher
        self._runners = runners
        self._publisher = publisher
        self._put = put
        self._metrics = metrics

    async def leases(self) -> dict[str, int]:
        """Attempts whose runner has not been heard of for a lease are lost."""
        lost = self._runners.lost()
        for item in lost:
            self._put(item)
        if lost:
            self._metrics.repairs.of("lease").inc(len(lost))
        return {"lost": len(lost)}

    async def rows(self) -> dict[str, int]:
        """Open executions that are awake and not in memory: a nudge was lost, or their shard has just become ours."""
        found = 0
        shards = sorted(self._owned)
        last = None
        while shards:
            with self._live.watched() as left:
                page = await self._rows.awake(shards, PAGE, last)
                missing = [row for row in page if row.start.execution_id not in self._live]
                if missing:
                    await self._loader.load_rows(missing, left)
            found += len(missing)
            self.begin([row.start.execution_id for row in missing])
            if len(page) < PAGE:
                break
            last = page[-1]
        if found:
            self._metrics.repairs.of("execution").inc(found)
        return {"loaded": found}

    def begin(self, execution_ids: list[bytes]) -> None:
        """Queue the first decision of executions that have none; of those that cannot be loaded the writer hears so."""
        for execution_id in execution_ids:
            live = self._live.get(execution_id)
            if live is None or live.state.status is ExecutionStatus.PENDING:
                self._put(Item(execution_id, Begin()))

    async def tasks(self) -> dict[str, int]:
        """Publish again what is known lost: no lease, silent, and the stream no longer has it."""
        now = self._clock.now()
        stream: StreamState | None = None
        again: list[tuple[Live, int]] = []
        for live in list(self._live.values()):
            for node, flight in list(live.in_flight.items()):
                if flight.runner_id or now - flight.heard_at < self._patience(flight):
                    continue
                if flight.queue:
                    if stream is None:
                        stream = await self._publisher.stream_state()
                    if not await self._gone(flight, stream):
                        continue
                again.append((live, node))
        return {"published_again": await self._publish_again(again)}

    @staticmethod
    def _patience(flight: InFlight) -> int:
        return SILENT_US if flight.queue else UNCERTAIN_US

    async def _gone(self, flight: InFlight, stream: StreamState) -> bool:
        """Whether the stream no longer holds a publication of ours. Unknown counts as there."""
        if flight.published_at < stream.created_at:
            return True
        if not flight.sequence:
            return True
        if flight.sequence < stream.first_sequence:
            return True
        try:
            return not await self._publisher.has_sequence(flight.sequence)
        except BusError:
            return False

    def _fitting(self, again: list[tuple[Live, int]]) -> list[tuple[Live, int]]:
        """What the windows have room for. After a takeover far more may wait: its outputs are not loaded for nothing."""
        room: dict[str, int] = {}
        fitting: list[tuple[Live, int]] = []
        for live, node in again:
            flight = live.in_flight.get(node)
            if flight is None:
                continue
            if not flight.queue:
                queue = live.state.workflow.nodes[node].task_queue
                left = room.setdefault(queue, self._dispatcher.room(queue))
                if left <= 0:
                    continue
                room[queue] = left - 1
            fitting.append((live, node))
        return fitting

    async def _publish_again(self, again: list[tuple[Live, int]]) -> int:
        again = self._fitting(again)
        bare = [live for live, _ in again if not live.state.values.complete]
        if bare:
            await self._loader.load_outputs(bare)
        count = 0
        for live, node in again:
            flight = live.in_flight.get(node)
            if self._live.get(live.id) is not live or flight is None or flight.runner_id:
                continue
            self._dispatcher.publish_again(live, node)
            count += 1
        if count:
            self._metrics.repairs.of("task").inc(count)
        return count
