"""Which shards are ours: the session's lease, taking free shards, handing over to those who have fewer.

Local knowledge is only ever used to stop sooner: what counts is the fence in every commit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from services.adapters.clock import Clock
from services.adapters.log import get_logger
from services.adapters.postgres.commit import Committer
from services.adapters.postgres.errors import DatabaseUnavailableError
from services.adapters.postgres.sessions import LEASE_US, SessionStore
from services.core.events import EVENTS_VERSION
from services.core.ids import SHARDS
from services.core.ports import Committed
from services.core.records import SessionRow
from services.core.units import SECOND
from services.scheduler.batch import Batch
from services.scheduler.writer import Writer

# Shards handed over in one commit: what they hold must be loaded by their new owner.
HAND_OVER_MAX = 32

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who holds the session: a name for people, and the address of the gRPC server."""

    holder: str
    address: str


class Ownership:
    """The session and its shards. `gained` and `lost` are told of shards that changed hands, after the commit."""

    def __init__(
        self,
        clock: Clock,
        sessions: SessionStore,
        database_url: str,
        identity: Identity,
        writer: Writer,
        owned: set[int],
        gained: Callable[[tuple[int, ...]], None],
        lost: Callable[[tuple[int, ...]], None],
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._url = database_url
        self._identity = identity
        self._writer = writer
        self.owned = owned
        self._gained = gained
        self._lost = lost
        self._committer: Committer | None = None
        self._retired: list[tuple[int, Committer]] = []
        self._moves = 0
        self._absent: set[int] = set()
        self._reachable_since: float | None = None
        self.session = 0
        self.lease_until = 0
        self.leaving = False

    async def renew(self) -> dict[str, int]:
        """Keep the lease, or open a session when there is none. A lost session is stepped down from at once."""
        if not self.session:
            if not self.leaving:
                await self._open()
            return {"opened": 1}
        until = await self._sessions.renew(self.session)
        if until is None:
            await self.step_down("the lease ended")
            return {"lost": 1}
        self.lease_until = until
        return {"renewed": 1}

    async def _open(self) -> None:
        row = await self._sessions.open(self._identity.holder, self._identity.address, EVENTS_VERSION)
        self.session, self.lease_until = row.session, row.lease_until
        self._committer = Committer(self._url, row.session)
        self._writer.open(row.session, self._committer)
        log.info("session opened", session=row.session)

    def fenced(self, constraint: str) -> None:
        """Another writer has been here: nothing decided since may leave. The session duty opens a new one."""
        log.error("fenced", session=self.session, constraint=constraint)
        self._writer.shut()
        self._drop(tuple(self.owned))
        self._retire()

    async def step_down(self, why: str) -> None:
        """End the session: forget everything, close it, so that others may take its shards."""
        if self.session:
            log.warning("stepping down", session=self.session, why=why)
            self._writer.shut()
            self._drop(tuple(self.owned))
            self._retire()
        await self._close_retired()

    def _retire(self) -> None:
        assert self._committer is not None
        self._retired.append((self.session, self._committer))
        self.session, self._committer = 0, None

    async def _close_retired(self) -> None:
        """Close what is no longer ours: the connection first, then the session, so that others may take over.

        Two duties may do so at once; repeating either step is harmless.
        """
        while self._retired:
            retired = session, committer = self._retired[0]
            await committer.close()
            await self._sessions.close_own(session)
            if retired in self._retired:
                self._retired.remove(retired)

    async def balance(self) -> dict[str, int]:
        """Close expired sessions, take free shards up to the fair share, hand over what is beyond it."""
        try:
            await self._close_retired()
            expired = await self._sessions.expired()
        except DatabaseUnavailableError:
            self._reachable_since = None
            raise
        if self._may_take_over():
            for session in expired:
                if session != self.session:
                    log.warning("taking over", session=session)
                    await self._sessions.close_expired(session)
        if not self.session or self.leaving:
            return {}
        living = await self._sessions.living()
        if all(row.session != self.session for row in living):
            return {}
        owners = await self._sessions.shard_map()
        return self._rebalance(living, owners)

    def _may_take_over(self) -> bool:
        """Whether the database has been there for a lease: when it comes back everybody must have time to renew."""
        now = self._clock.monotonic()
        if self._reachable_since is None:
            self._reachable_since = now
        return now - self._reachable_since >= LEASE_US / SECOND

    def _rebalance(self, living: list[SessionRow], owners: list[int | None]) -> dict[str, int]:
        alive = {row.session for row in living}
        fair = math.ceil(SHARDS / len(alive))
        held: dict[int, int] = dict.fromkeys(alive, 0)
        free: list[int] = []
        for shard, session in enumerate(owners):
            if session in held:
                held[session] += 1
            else:
                free.append(shard)
        room = fair - len(self.owned)
        if free and room > 0:
            # Rotated, so that two takers do not reach for the same shards.
            start = self.session * 37 % len(free)
            wanted = tuple(sorted((free[start:] + free[:start])[:room]))
            self._writer.prepare(lambda batch: _take(batch, wanted))
            return {"taking": len(wanted)}
        if not free and len(self.owned) > fair:
            hand_overs = self._surplus(living, held, fair)
            if hand_overs:
                self._writer.prepare(lambda batch: _hand_over(batch, hand_overs))
                return {"handing_over": len(hand_overs)}
        return {}

    def _surplus(
        self, living: list[SessionRow], held: dict[int, int], fair: int
    ) -> tuple[tuple[int, int], ...]:
        """Shards beyond the fair share, each with a living session below it that knows our events."""
        able = [
            row.session
            for row in living
            if row.events_version >= EVENTS_VERSION and row.session != self.session
        ]
        surplus = sorted(self.owned)[fair:][:HAND_OVER_MAX]
        given: list[tuple[int, int]] = []
        floor = SHARDS // len(living)
        for shard in surplus:
            takers = [session for session in able if held[session] < floor or held[session] < fair - 1]
            if not takers:
                break
            taker = min(takers, key=held.__getitem__)
            held[taker] += 1
            given.append((shard, taker))
        return tuple(given)

    def committed(self, outcome: Committed) -> None:
        """Shards that a commit moved: theirs at once, ours at once."""
        if outcome.handed_over:
            log.info("shards handed over", shards=len(outcome.handed_over))
            self._drop(outcome.handed_over)
        if outcome.taken:
            log.info("shards taken", shards=len(outcome.taken))
            self._gain(outcome.taken)

    async def adopt(self) -> dict[str, int]:
        """Believe the map: it names our session for shards that others handed to us, or no longer for some of ours."""
        if not self.session:
            return {}
        session, moves = self.session, self._moves
        owners = await self._sessions.shard_map()
        mine = {shard for shard, owner in enumerate(owners) if owner == session}
        if (self.session, self._moves) != (session, moves):
            return {}  # shards moved while the map was read: it may be older than what we know
        # Seen twice: of a hand-over whose commit is just being answered the answer comes first.
        absent, self._absent = self._absent, self.owned - mine
        lost = tuple(sorted(absent & self._absent))
        if lost:
            log.error("shards are somebody else's", shards=len(lost))
            self._drop(lost)
        gained = tuple(sorted(mine - self.owned))
        if gained:
            log.info("shards received", shards=len(gained))
            self._gain(gained)
        return {"received": len(gained)}

    def _gain(self, shards: tuple[int, ...]) -> None:
        self._moves += 1
        self.owned.update(shards)
        self._gained(shards)

    def _drop(self, shards: tuple[int, ...]) -> None:
        self._moves += 1
        self.owned.difference_update(shards)
        self._lost(shards)

    async def leave(self) -> None:
        """Drain: stop taking shards, close the session so that others take them at once."""
        self.leaving = True
        await self.step_down("draining")


def _take(batch: Batch, wanted: tuple[int, ...]) -> None:
    batch.take_overs = wanted


def _hand_over(batch: Batch, hand_overs: tuple[tuple[int, int], ...]) -> None:
    batch.hand_overs = hand_overs
