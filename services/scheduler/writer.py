"""The one writer of a session's executions: collect, decide, commit, act, in that order.

While a commit is in flight the next batch collects, so under load a commit carries hundreds of events and alone
nobody waits. Nothing is decided on top of a commit whose outcome is open, and whatever was decided in a commit that
failed is forgotten: state lives again from rows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from services.adapters.clock import Clock
from services.adapters.log import get_logger
from services.adapters.postgres.errors import DatabaseUnavailableError
from services.core.errors import RESOURCE, NodeError
from services.core.inputs import Abort
from services.core.ports import Commits, Committed, Fenced, NeverCommitted, Refused, RolledBack
from services.core.units import MIB
from services.scheduler.batch import Batch
from services.scheduler.deciding import Decider
from services.scheduler.duties.quarantine import reason
from services.scheduler.items import Item
from services.scheduler.metrics import SchedulerMetrics

# Inputs decided in one batch: bounds the size of a commit and the time the loop belongs to it.
BATCH_ITEMS_MAX = 512
# Bytes of outputs in one batch: a commit that the database cannot take in time would be repeated for ever.
BATCH_BYTES_MAX = 16 * MIB
BACKOFF_SECONDS_MIN = 0.02
BACKOFF_SECONDS_MAX = 2.0

log = get_logger(__name__)


class Writer:
    """Turns queued inputs into fenced commits, and lets their effects out afterwards.

    `act` is called with each batch once it is committed; `fenced` when another writer has been here: the session
    is over. Both run on the event loop, between commits.
    """

    def __init__(
        self,
        clock: Clock,
        decider: Decider,
        act: Callable[[Batch, bytes, Committed], None],
        fenced: Callable[[str], None],
        metrics: SchedulerMetrics,
    ) -> None:
        self._clock = clock
        self._decider = decider
        self._act = act
        self._fenced = fenced
        self._metrics = metrics
        self._items: deque[Item] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._prepared: list[Callable[[Batch], None]] = []
        self._commits: Commits | None = None
        self.session = 0
        self.number = 0
        self.last_commit_seconds = 0.0
        self._oldest_at = 0

    def open(self, session: int, commits: Commits) -> None:
        """Write for a session from its first number on."""
        self.session, self.number, self._commits = session, 0, commits
        self._wake.set()

    def shut(self) -> None:
        """Write no more: the session is over. What is queued is forgotten; everybody asks again."""
        self._commits, self.session = None, 0
        self._items.clear()
        self._prepared.clear()

    def put(self, item: Item) -> None:
        """Queue an input."""
        if not self._items:
            self._oldest_at = self._clock.now()
        self._items.append(item)
        self._wake.set()

    def prepare(self, add: Callable[[Batch], None]) -> None:
        """Let `add` put something of its own (shards that change hands, executions to put down) into the next batch."""
        self._prepared.append(add)
        self._wake.set()

    @property
    def queued(self) -> int:
        """Inputs that wait for their batch."""
        return len(self._items)

    def lag_us(self) -> int:
        """For how long, at most, inputs have been waiting for their batch."""
        return self._clock.now() - self._oldest_at if self._items else 0

    async def until_idle(self) -> None:
        """Return once nothing is queued and no commit is in flight."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._idle.clear()
            while self._commits is not None and (self._items or self._prepared):
                await self._turn(self._commits)
            self._idle.set()

    def _take(self) -> list[Item]:
        """The next inputs, in order: so many, and so many bytes of outputs, as one commit may hold."""
        items: list[Item] = []
        size = 0
        while self._items and len(items) < BATCH_ITEMS_MAX and size < BATCH_BYTES_MAX:
            item = self._items.popleft()
            items.append(item)
            size += len(getattr(item.happened, "output", b""))
        return items

    async def _turn(self, commits: Commits) -> None:
        items = self._take()
        prepared, self._prepared = self._prepared, []
        self._oldest_at = self._clock.now()
        try:
            batch = await self._decider.decide(items)
        except DatabaseUnavailableError:
            # Nothing was decided yet: loading comes first. The same inputs again, once rows can be read.
            self._items.extendleft(reversed(items))
            self._prepared[:0] = prepared
            await asyncio.sleep(BACKOFF_SECONDS_MAX / 4)
            return
        for add in prepared:
            add(batch)
        if self._commits is commits:
            await self._commit(commits, batch)

    async def _commit(self, commits: Commits, batch: Batch) -> None:
        backoff = BACKOFF_SECONDS_MIN
        while self._commits is commits:
            number = self.number + 1
            rows = batch.encode(self.session, number)
            began = self._clock.monotonic()
            outcome = await commits.commit(rows)
            self.last_commit_seconds = self._clock.monotonic() - began
            self._metrics.commit_seconds.observe(self.last_commit_seconds)
            if self._commits is not commits:
                return
            match outcome:
                case Committed():
                    self.number = number
                    self._metrics.committed(len(rows.history), batch)
                    self._act(batch, rows.digest, outcome)
                    return
                case RolledBack():
                    log.warning("commit rolled back", sqlstate=outcome.sqlstate, error=outcome.message)
                    self._metrics.outcomes.of("rolled_back").inc()
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, BACKOFF_SECONDS_MAX)
                case NeverCommitted():
                    log.warning("commit never was", session=self.session, number=number)
                    self._metrics.outcomes.of("never").inc()
                    self.number = number
                    self._again(batch)
                    return
                case Fenced():
                    self._metrics.outcomes.of("fenced").inc()
                    self._fenced(outcome.constraint)
                    return
                case Refused():
                    self._metrics.outcomes.of("refused").inc()
                    await self._refused(commits, batch, outcome)
                    return

    def _again(self, batch: Batch) -> None:
        """Forget what was decided, and decide the same inputs again from rows."""
        for change in reversed(batch.changes.values()):
            self._decider.forget(change.live)
            self._items.extendleft(reversed(change.items))
        self._wake.set()

    async def _refused(self, commits: Commits, batch: Batch, outcome: Refused) -> None:
        """The database takes some value of the batch never: halve it until the culprit is alone; that one fails."""
        if len(batch.changes) > 1:
            for half in batch.halves():
                await self._commit(commits, half)
            return
        for change in batch.changes.values():
            self._decider.forget(change.live)
            log.error(
                "data refused",
                execution_id=change.live.id.hex(),
                sqlstate=outcome.sqlstate,
                error=outcome.message,
            )
            if any(isinstance(item.happened, Abort) for item in change.items):
                self.prepare(_quarantine(change.live.id, f"refused by the database: {outcome.sqlstate}"))
                continue
            message = f"the database refused the data of this step ({outcome.sqlstate})"
            self.put(Item(change.live.id, Abort(NodeError(RESOURCE, message, retryable=False))))
        if not batch.changes:
            raise RuntimeError(
                f"a commit without executions was refused: {outcome.sqlstate} {outcome.message}"
            )


def _quarantine(execution_id: bytes, why: str) -> Callable[[Batch], None]:
    def add(batch: Batch) -> None:
        batch.quarantines[execution_id] = reason(why)

    return add
