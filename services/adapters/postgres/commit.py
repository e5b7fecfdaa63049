"""Makes the fenced group commits of one session and says, for sure, what came of each.

When the connection is lost while a commit is in flight, nobody knows whether it was made. Then the same
number is inserted as void over a new connection: the unique key makes that wait for the old backend.
Accepted, the commit can never be made any more; refused, the row that is there says what happened.
"""

from __future__ import annotations

import asyncio

import psycopg
from psycopg import errors

from services.adapters.postgres.binary import UNPACKABLE, Bigint
from services.adapters.postgres.commit_statement import prepare
from services.adapters.postgres.connection import Connection, bounded, connect, fetch
from services.adapters.postgres.errors import DATA_CLASSES
from services.core.ports import CommitBatch, Committed, Fenced, NeverCommitted, Outcome, Refused, RolledBack
from services.core.records import COMMIT_CLOSED, COMMIT_MADE

STATEMENT_TIMEOUT_MS = 10_000
SILENCE_MAX_S = 12.0
RECONNECT_DELAY_S = 0.05
RECONNECT_DELAY_MAX_S = 1.0
# Statements differ by the parts they have: 2^10 shapes at most, a handful in practice.
PREPARED_MAX = 256
SETTINGS: dict[str, str | int] = {
    "idle_in_transaction_session_timeout": 3_000,
    "statement_timeout": STATEMENT_TIMEOUT_MS,
    "synchronous_commit": "on",
    # Every access is by key: plan each statement once (a plan for each batch would look at every partition), and
    # never by statistics of a table that was empty.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
# The fence of sessions; that of executions is the key of their history.
COMMITS_KEY = "commits_pkey"
# Rolled back on this connection, but another one may do better: the server became read-only.
_RECONNECT = frozenset({"25006"})
_FATAL = frozenset({"FATAL", "PANIC"})

_VOID = (
    "insert into commits (session, number, kind) values (%s, %s, 1)"
    " on conflict (session, number) do nothing returning number"
)
_READ = "select kind, at from commits where session = %s and number = %s"
_OWNED = "select shard from shards where session = %s"


def application_name(session: int) -> str:
    """Name of a session's backends, by which whoever takes over finds and terminates them."""
    return f"wc-session-{session}"


class Committer:
    """The commit connection of a session. One commit at a time; a cancelled one ends its use."""

    def __init__(self, url: str, session: int) -> None:
        self._url = url
        self._session = session
        self._connection: Connection | None = None
        self._busy = False
        self._ended = False

    async def commit(self, batch: CommitBatch) -> Outcome:
        """Commit a batch. Returns only when the outcome is known, however long the server is away.

        Raises RuntimeError when a commit is under way, or after `close` or a cancelled commit, whose outcome
        nobody knows.
        """
        if self._busy or self._ended:
            raise RuntimeError("a commit is under way, or this committer has ended")
        self._busy = True
        try:
            return await self._commit(batch)
        except BaseException:
            self._ended = True
            raise
        finally:
            self._busy = False
            if self._ended:
                await self._drop()

    async def _commit(self, batch: CommitBatch) -> Outcome:
        try:
            connection = await self._connected()
        except psycopg.OperationalError as error:
            return RolledBack(error.sqlstate or "08001", str(error))
        try:
            statement, parameters = prepare(batch)
        except UNPACKABLE as error:
            return Refused("22000", str(error))
        try:
            with bounded(connection, SILENCE_MAX_S):
                rows = await fetch(connection, statement, parameters, prepare=True)
        except psycopg.Error as error:
            # A fatal error may arrive after the commit was made: only the database knows.
            if connection.closed or error.diag.severity_nonlocalized in _FATAL:
                await connection.close()
                return await self._resolve(batch)
            return await self._failed(error)
        ((at, taken, handed),) = rows
        return Committed(at, tuple(taken or ()), tuple(handed or ()))

    async def _failed(self, error: psycopg.Error) -> Outcome:
        """The server said no and the connection lives: nothing was kept."""
        sqlstate, constraint = error.sqlstate or "22000", error.diag.constraint_name or ""
        if isinstance(error, errors.UniqueViolation) and is_fence(constraint):
            return Fenced(constraint)
        if sqlstate.startswith(DATA_CLASSES):
            return Refused(sqlstate, str(error), constraint)
        if sqlstate in _RECONNECT:
            await self._drop()
        return RolledBack(sqlstate, str(error))

    async def _resolve(self, batch: CommitBatch) -> Outcome:
        """Void the number of a commit whose outcome is unknown, or find out what it became."""
        delay_s = RECONNECT_DELAY_S
        while True:
            try:
                return await self._void(await self._connected(), batch)
            except psycopg.Error:
                # Down, restarting, or out of connections: the answer is in the database and nowhere else.
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RECONNECT_DELAY_MAX_S)

    async def _void(self, connection: Connection, batch: CommitBatch) -> Outcome:
        key = (Bigint(batch.session), Bigint(batch.number))
        with bounded(connection, SILENCE_MAX_S):
            if await fetch(connection, _VOID, key):
                return NeverCommitted()
            rows = await fetch(connection, _READ, key)
            if not rows:
                raise psycopg.OperationalError("the row that refused a void is gone")
            kind, at = rows[0]
            if kind == COMMIT_CLOSED:
                return Fenced(COMMITS_KEY)
            if kind != COMMIT_MADE:
                return NeverCommitted()  # an earlier try to void it was lost as well
            rows = await fetch(connection, _OWNED, (Bigint(batch.session),))
        owned = {shard for (shard,) in rows}
        handed = sorted(shard for shard, _ in batch.hand_overs if shard not in owned)
        return Committed(at, tuple(sorted(owned.intersection(batch.take_overs))), tuple(handed))

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            name = application_name(self._session)
            self._connection = await connect(self._url, application_name=name, settings=SETTINGS)
            self._connection.prepared_max = PREPARED_MAX
        return self._connection

    async def _drop(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def close(self) -> None:
        """Commit no more; a commit under way is finished first. The session stays open."""
        self._ended = True
        if not self._busy:
            await self._drop()

    async def __aenter__(self) -> Committer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def is_fence(constraint: str) -> bool:
    """Whether a violated unique constraint means that another writer owns what was written."""
    history = constraint.startswith("execution_history_") and constraint.endswith("_pkey")
    return history or constraint == COMMITS_KEY
