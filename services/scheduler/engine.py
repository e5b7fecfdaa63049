"""The engine: the scheduler's parts, put together around the executions in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from services.adapters.bus import Bus, TaskPublisher
from services.adapters.clock import SystemClock
from services.adapters.postgres.commit import COMMITS_KEY
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.logs import LogStore
from services.adapters.postgres.sessions import RENEW_EVERY_US, SessionStore
from services.core.expressions import ExpressionCompiler
from services.core.graph import RetryDefaults
from services.core.ids import SHARDS, shard_of
from services.core.ports import Committed
from services.core.units import SECOND
from services.scheduler.acting import Actor
from services.scheduler.alarm import Alarm
from services.scheduler.batch import Batch
from services.scheduler.deciding import Decider
from services.scheduler.dispatch import Dispatcher
from services.scheduler.duties.inbox import Inbox
from services.scheduler.duties.quarantine import Quarantine
from services.scheduler.duties.repair import Repair
from services.scheduler.duties.sleep import Sleep
from services.scheduler.duties.sweeping import Sweeping
from services.scheduler.hearing import Hearing
from services.scheduler.items import Item
from services.scheduler.live import LiveTable
from services.scheduler.loading import Loader
from services.scheduler.logs import LogWriter
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.ownership import Identity, Ownership
from services.scheduler.runners import Runners
from services.scheduler.versions import VersionCache
from services.scheduler.wakes import Wakes
from services.scheduler.writer import Writer

# How long a drain waits for the writer to become idle.
LEAVE_SECONDS = 5.0

RunOnce = Callable[[], Awaitable[Mapping[str, int] | None]]


class Engine:
    """Wires writer, decider, dispatcher and duties; holds the executions in memory and the shards that are ours."""

    def __init__(
        self,
        *,
        clock: SystemClock,
        bus: Bus,
        rows: ExecutionStore,
        logs: LogStore,
        sessions: SessionStore,
        sweeping: Sweeping,
        database_url: str,
        identity: Identity,
        compiler: ExpressionCompiler,
        defaults: RetryDefaults,
        sampled: Callable[[bytes], bool],
        draw: Callable[[], float],
        metrics: SchedulerMetrics,
    ) -> None:
        self.clock = clock
        self.bus = bus
        self.metrics = metrics
        self.live = LiveTable()
        self.owned: set[int] = set()
        self._owned_since: dict[int, int] = {}
        self.wakers: dict[str, Callable[[], None]] = {}
        self._rows = rows
        self._sessions = sessions
        self.sweeping = sweeping
        self.wakes = Wakes(self.live)
        self.dispatcher = Dispatcher(clock, self.live, self._put, sampled)
        self.actor = Actor(self.dispatcher, self.wakes, self.live, bus.publish, clock.now)
        self.loader = Loader(
            clock, rows, VersionCache(rows, compiler, defaults), self.live, self.wakes.note, self._since
        )
        decider = Decider(clock, self.loader, self.live, self.owns, draw, self.dispatcher.release_all)
        self.writer = Writer(clock, decider, self._committed, self._fenced, metrics)
        self.ownership = Ownership(
            clock, sessions, database_url, identity, self.writer, self.owned, self._gained, self._lost
        )
        self.log_writer = LogWriter(logs, bus, self.loader, self.live, self.owns)
        self.runners = Runners(
            clock,
            self.live,
            self.dispatcher,
            self.actor,
            self.owned,
            self._put,
            lambda: bus.state == "connected",
        )
        self.inbox = Inbox(rows, self.owned, self._put)
        self.quarantine = Quarantine(rows, self.owned, self.writer.prepare)
        alarm = Alarm(clock, self.wakes, self._put)
        self.sleep = Sleep(
            clock, rows, self.loader, self.live, self.owned, alarm, self._put, self.writer.prepare
        )
        self.hearing = Hearing(
            bus, self.owned, self._put, self.runners, self.log_writer, lambda: self._wake_duty("inbox")
        )
        self.repair: Repair | None = None

    def connect(self, publisher: TaskPublisher) -> None:
        """Give the work queue's end, which needs the dispatcher's callbacks to be made."""
        self.dispatcher.connect(publisher)
        self.repair = Repair(
            self.clock,
            self._rows,
            self.loader,
            self.live,
            self.owned,
            self.dispatcher,
            self.runners,
            publisher,
            self._put,
            self.metrics,
        )

    def duties(self) -> list[tuple[str, RunOnce, float]]:
        """Name, work and interval in seconds of each background duty."""
        assert self.repair is not None
        return [
            ("lease", self.ownership.renew, RENEW_EVERY_US / SECOND),
            ("balance", self.ownership.balance, 1.0),
            ("adopt", self.ownership.adopt, 1.0),
            ("clock", self.observe_clock, 5.0),
            ("inbox", self.inbox.run_once, 1.0),
            ("leases", self.repair.leases, 1.0),
            ("rows", self.repair.rows, 5.0),
            ("tasks", self.repair.tasks, 2.0),
            ("put-down", self.sleep.put_down, 1.0),
            ("wake", self.sleep.wake, 1.0),
            ("timers", self.sleep.timers, 1.0),
            ("quarantine", self.quarantine.run_once, 30.0),
            ("sweep", self.sweeping.rows, 30.0),
            ("partitions", self.sweeping.partitions, 3600.0),
            ("gauges", self._gauges, 1.0),
        ]

    def open(self) -> None:
        """Begin to hear."""
        self.hearing.open()

    async def observe_clock(self) -> dict[str, int]:
        """Learn the offset between this machine's clock and the database's."""
        asked_at = self.clock.monotonic()
        self.clock.observe(await self._sessions.database_now(), asked_at)
        return {"offset_us": self.clock.offset_us}

    async def leave(self) -> None:
        """Drain: hear nothing new, finish what is decided, then let others take the shards at once."""
        self.ownership.leaving = True
        self.hearing.close()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self.writer.until_idle()
        except TimeoutError:
            pass  # whoever takes the shards reads rows, not our memory
        self.dispatcher.flush()
        await self.ownership.leave()

    async def counts(self) -> tuple[int, int, int]:
        """Open executions of our shards: awake, asleep, quarantined."""
        return await self._rows.counts(sorted(self.owned))

    def owns(self, execution_id: bytes) -> bool:
        """Whether an execution's shard is ours."""
        return shard_of(execution_id) in self.owned

    def _since(self, execution_id: bytes) -> int:
        return self._owned_since[shard_of(execution_id)]

    def _put(self, item: Item) -> None:
        self.writer.put(item)

    def _wake_duty(self, name: str) -> None:
        waker = self.wakers.get(name)
        if waker is not None:
            waker()

    def _committed(self, batch: Batch, digest: bytes, outcome: Committed) -> None:
        self.actor.act(batch, digest, outcome)
        if outcome.handed_over:
            self.dispatcher.flush()
        if outcome.taken or outcome.handed_over:
            self.ownership.committed(outcome)

    def _fenced(self, constraint: str) -> None:
        if constraint != COMMITS_KEY:
            self.loader.distrust()
        self.ownership.fenced(constraint)
        self._wake_duty("balance")
        self._wake_duty("lease")

    def _gained(self, shards: tuple[int, ...]) -> None:
        self._owned_since.update(dict.fromkeys(shards, self.clock.now()))
        self.hearing.gained(shards)
        self._share()
        self._wake_duty("rows")
        self._wake_duty("inbox")

    def _lost(self, shards: tuple[int, ...]) -> None:
        """Forget what is no longer ours. Its tasks stay with their runners; the new owner hears of them."""
        self.hearing.lost(shards)
        gone = set(shards)
        self.loader.forgotten = {key for key in self.loader.forgotten if shard_of(key) not in gone}
        for live in self.live.lose(gone):
            self.dispatcher.release_all(live)
        self._share()

    def _share(self) -> None:
        self.dispatcher.session = self.ownership.session
        self.dispatcher.share = len(self.owned) / SHARDS
        self.metrics.shards.set(len(self.owned))

    async def _gauges(self) -> dict[str, int]:
        self.metrics.open.set(len(self.live))
        for queue, (waiting, out) in self.dispatcher.depths().items():
            self.metrics.queue_depth.labels(queue).set(waiting)
            self.metrics.queue_out.labels(queue).set(out)
        return {}
