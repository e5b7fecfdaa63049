"""A small pool for reads and short idempotent writes that survives a restart of the server unseen.

A failed connection empties the pool and the work is done again, once, on a fresh one: after a restart of
PostgreSQL nobody sees an error but those whom it hit while it was down. Not for commits: those own their
connection and resolve unknown outcomes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg

from services.adapters.postgres.connection import Connection, Parameters, Row, bounded, connect, fetch
from services.adapters.postgres.errors import as_refusal

T = TypeVar("T")

STATEMENT_TIMEOUT_MS = 30_000
# Rolled back for sure and worth another try: serialization failure, deadlock.
_AGAIN = frozenset({"40001", "40P01"})
_ATTEMPTS_MAX = 5


class Pool:
    """At most `size` connections, opened when needed, the last used first.

    `generic_plans`: plan a statement once, for all values. The planner would rather plan every time anew to leave
    partitions out, which costs more than the statement; those here leave them out while they run.
    `statement_timeout_ms` is enforced by the server, and one second later by cutting the connection.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int = 4,
        application_name: str = "weconnect",
        statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
        generic_plans: bool = False,
    ) -> None:
        self._url = url
        self._application_name = application_name
        self._settings: dict[str, str | int] = {
            "statement_timeout": statement_timeout_ms,
            "idle_in_transaction_session_timeout": statement_timeout_ms,
        }
        if generic_plans:
            self._settings["plan_cache_mode"] = "force_generic_plan"
        self._statement_timeout_ms = statement_timeout_ms
        self._room = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._closed = False

    async def fetch(self, query: str, parameters: Parameters = None) -> list[Row]:
        """Rows of one statement. It runs twice when a connection is lost, so a repeat must be harmless.

        Raises DatabaseUnavailableError when the server cannot be reached, DataRefusedError for bad values.
        """
        return await self.run(lambda connection: fetch(connection, query, parameters))

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction; as `fetch`, it may run more than once, also after a deadlock."""

        async def inside(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                return await self._run(inside)
            except psycopg.Error as error:
                if error.sqlstate not in _AGAIN or attempt == _ATTEMPTS_MAX:
                    raise as_refusal(error) from error
        raise AssertionError("unreachable")

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` with a connection of its own, again on a fresh one when the first was found dead."""
        try:
            return await self._run(work)
        except psycopg.Error as error:
            raise as_refusal(error) from error

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._room:
            connection = self._idle.pop() if self._idle else await self._open()
            try:
                return await self._use(connection, work)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if not connection.closed:
                    raise
                await self._discard_idle()
            return await self._use(await self._open(), work)

    async def _open(self) -> Connection:
        if self._closed:
            raise RuntimeError("the pool is closed")
        return await connect(self._url, application_name=self._application_name, settings=self._settings)

    async def _use(self, connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            with bounded(connection, self._statement_timeout_ms / 1000 + 1.0):
                return await work(connection)
        finally:
            await self._give_back(connection)

    async def _give_back(self, connection: Connection) -> None:
        clean = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if connection.closed or not clean or self._closed:
            await connection.close()
        else:
            self._idle.append(connection)

    async def _discard_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    async def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        self._closed = True
        await self._discard_idle()

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
