"""Sessions and shards: leases in database time, and taking over from a session that let its lease end.

The order of a take-over is the fence: terminate the old session's backends, insert its next number as closed,
mark it closed, and only then, in statements of their own, take its shards and read. Nobody is taken from
while PostgreSQL itself has been up for less than one lease: a restart must not look like everybody's death.
"""

from __future__ import annotations

from services.adapters.postgres.binary import Bigint, Smallint
from services.adapters.postgres.commit import application_name
from services.adapters.postgres.pool import Pool
from services.core.ids import SHARDS
from services.core.records import SessionRow
from services.core.units import SECOND

LEASE_US = 6 * SECOND
RENEW_EVERY_US = 1_500_000
TERMINATION_WAIT_MS = 1_000

_INTERVAL = "make_interval(secs => %s::double precision / 1000000)"
_OPEN = (
    "insert into sessions (holder, address, events_version, lease_until)"
    f" values (%s, %s, %s, clock_timestamp() + {_INTERVAL})"
    " returning id, holder, address, events_version, lease_until"
)
_RENEW = (
    f"update sessions set lease_until = clock_timestamp() + {_INTERVAL}"
    " where id = %s and not closed returning lease_until"
)
_EXPIRED = (
    "select id from sessions where not closed and lease_until < clock_timestamp()"
    f" and pg_postmaster_start_time() < clock_timestamp() - {_INTERVAL} order by id"
)
_LIVING = (
    "select id, holder, address, events_version, lease_until from sessions"
    " where not closed and lease_until >= clock_timestamp() order by id"
)
_TERMINATE = (
    "select count(pg_terminate_backend(pid, %s)) from pg_stat_activity"
    " where application_name = %s and pid <> pg_backend_pid()"
)
# The number after the last one of the session. A commit in flight that has this number makes the insert wait;
# when that commit is made, nothing is inserted here and the next try takes the number after it.
_CLOSING = (
    "insert into commits (session, number, kind) select %(session)s, coalesce(max(number), 0) + 1, 2"
    " from commits where session = %(session)s having coalesce(max(kind), 0) < 2"
    " on conflict (session, number) do nothing"
)
_IS_CLOSING = "select exists (select 1 from commits where session = %s and kind = 2)"
_CLOSE = "update sessions set closed = true where id = %s and not closed"
_SHARDS = "select shard, session from shards order by shard"
_NOW = "select clock_timestamp()"


class SessionStore:
    """Reads and writes `sessions` and `shards`. Give the pool that renews to nothing else, size 1."""

    def __init__(self, pool: Pool, lease_us: int = LEASE_US) -> None:
        self._pool = pool
        self._lease_us = lease_us

    async def open(self, holder: str, address: str, events_version: int) -> SessionRow:
        """Open a session with a lease. After a lost connection one may stay behind that expires unused."""
        parameters = (holder, address, Smallint(events_version), Bigint(self._lease_us))
        rows = await self._pool.fetch(_OPEN, parameters)
        return SessionRow(*rows[0])

    async def renew(self, session: int) -> int | None:
        """Extend the lease by its length from now; the new end, or None when the session was closed."""
        rows = await self._pool.fetch(_RENEW, (Bigint(self._lease_us), Bigint(session)))
        return int(rows[0][0]) if rows else None

    async def expired(self) -> list[int]:
        """Open sessions whose lease has ended; none within a lease of the server's own start."""
        return [int(row[0]) for row in await self._pool.fetch(_EXPIRED, (Bigint(self._lease_us),))]

    async def living(self) -> list[SessionRow]:
        """Sessions with a lease, oldest first."""
        return [SessionRow(*row) for row in await self._pool.fetch(_LIVING)]

    async def close_expired(self, session: int) -> None:
        """Fence a session off for good: after this its shards may be taken. Repeating it is harmless."""
        # Termination frees what a frozen process may hold; the closing row alone is what fences.
        await self._pool.fetch(_TERMINATE, (Bigint(TERMINATION_WAIT_MS), application_name(session)))
        await self.close_own(session)

    async def close_own(self, session: int) -> None:
        """Close one's own session after its last commit: others may take its shards at once."""
        while True:
            await self._pool.fetch(_CLOSING, {"session": Bigint(session)})
            rows = await self._pool.fetch(_IS_CLOSING, (Bigint(session),))
            if rows[0][0]:
                break
        await self._pool.fetch(_CLOSE, (Bigint(session),))

    async def shard_map(self) -> list[int | None]:
        """Session of each of the 256 shards; None: nobody's. A closed session may still be named."""
        owners: list[int | None] = [None] * SHARDS
        for shard, session in await self._pool.fetch(_SHARDS):
            owners[shard] = session
        return owners

    async def database_now(self) -> int:
        """The server's clock in microseconds, for `Clock.observe`."""
        rows = await self._pool.fetch(_NOW)
        return int(rows[0][0])
