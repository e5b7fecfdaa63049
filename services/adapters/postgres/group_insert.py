"""Group commit for api: what arrives while an insert is in flight goes together in the next one.

Each batch inserts a row of its own, so that an unknown outcome can be resolved as a commit's is: over a new
connection the same id is inserted as void; accepted, the batch never was and goes again under another id;
refused, it was made and its results are read back. A batch with a value that the database refuses is halved
until the culprit is alone.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import psycopg

from services.adapters.ids import new_request_id
from services.adapters.postgres.binary import UNPACKABLE, Uuid
from services.adapters.postgres.connection import Connection, bounded, connect, fetch, has_ended
from services.adapters.postgres.errors import DATA_CLASSES, DatabaseUnavailableError, DataRefusedError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

BATCH_ITEMS_MAX = 500
STATEMENT_TIMEOUT_MS = 10_000
SILENCE_MAX_S = 12.0
RETRY_DELAY_S = 0.02
RETRY_DELAY_MAX_S = 1.0
# A batch that the database rolls back, or cannot be reached for, is given up after so many tries.
TRIES_MAX = 5
_SETTINGS: dict[str, str | int] = {
    # Planned once for all batches: a plan for each batch would look at every partition.
    "plan_cache_mode": "force_generic_plan",
    "statement_timeout": STATEMENT_TIMEOUT_MS,
    "idle_in_transaction_session_timeout": 3_000,
    "synchronous_commit": "on",
    "jit": "off",
}
_FATAL = frozenset({"FATAL", "PANIC"})
_VOID = "insert into insert_batches (id, kind) values (%s, 1) on conflict (id) do nothing returning id"
_KIND = "select kind from insert_batches where id = %s"


class _UnknownOutcomeError(Exception):
    """The connection was lost while the batch was in flight."""


class GroupInsert(ABC, Generic[ItemT, ResultT]):
    """Inserts items in groups, one group at a time, over a connection of its own."""

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._application_name = application_name
        self._waiting: list[tuple[ItemT, asyncio.Future[ResultT]]] = []
        self._connection: Connection | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._closing = False
        self.batches = 0
        self.last_rows = 0
        self.last_seconds = 0.0
        self.on_batch: Callable[[int, float], None] | None = None  # told the rows and seconds of each insert

    @abstractmethod
    async def write(
        self, connection: Connection, batch: Uuid, items: Sequence[ItemT]
    ) -> list[ResultT | Exception | None]:
        """Insert items and the batch's row in one statement; None for those that were there already."""

    @abstractmethod
    async def look_up(self, connection: Connection, items: Sequence[ItemT]) -> list[ResultT | None]:
        """What is stored for items that were written, or were there already; None: it is gone."""

    @abstractmethod
    def order(self, item: ItemT) -> tuple[str, str]:
        """Key that a batch is sorted by: batches of two processes must lock in the same order."""

    async def put(self, item: ItemT) -> ResultT:
        """Insert an item and return what is stored for it, once it is committed.

        Raises DataRefusedError for values that are not taken, DatabaseUnavailableError when the outcome is
        that nothing was written for now.
        """
        if self._closing:
            raise DatabaseUnavailableError
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return await future

    async def close(self) -> None:
        """Finish what was put, unless the database is away, and close the connection."""
        self._closing = True
        if self._flushing is not None:
            await self._flushing
        if self._connection is not None:
            await self._connection.close()

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_ITEMS_MAX], self._waiting[BATCH_ITEMS_MAX:]
            # Who has stopped waiting before anything was sent gets nothing inserted.
            wanted = [entry for entry in batch if not entry[1].done()]
            wanted.sort(key=lambda entry: self.order(entry[0]))
            try:
                await self._insert(wanted)
            except Exception as error:
                for _, future in wanted:
                    if not future.done():
                        future.set_exception(error)

    async def _insert(self, entries: list[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        if not entries:
            return
        try:
            results = await self._insert_all([item for item, _ in entries])
        except DataRefusedError as refused:
            if len(entries) == 1:
                results = [refused]
            else:
                middle = len(entries) // 2
                await self._insert(entries[:middle])
                await self._insert(entries[middle:])
                return
        for (_, future), result in zip(entries, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _insert_all(self, items: list[ItemT]) -> list[ResultT | Exception]:
        delay_s = RETRY_DELAY_S
        for _ in range(TRIES_MAX):
            batch = Uuid(bytes.fromhex(new_request_id()))
            try:
                return await self._insert_once(batch, items)
            except _UnknownOutcomeError:
                if await self._was_made(batch):
                    return await self._complete(items, [None] * len(items))
            except UNPACKABLE as error:
                raise DataRefusedError("22000") from error
            except psycopg.Error as error:
                if error.sqlstate is not None and error.sqlstate.startswith(DATA_CLASSES):
                    raise DataRefusedError(error.sqlstate) from error
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_DELAY_MAX_S)
        raise DatabaseUnavailableError

    async def _insert_once(self, batch: Uuid, items: list[ItemT]) -> list[ResultT | Exception]:
        connection = await self._connected()
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            with bounded(connection, SILENCE_MAX_S):
                written = await self.write(connection, batch, items)
        except psycopg.Error as error:
            # A fatal error may arrive after the insert was committed.
            if connection.closed or error.diag.severity_nonlocalized in _FATAL:
                await connection.close()
                raise _UnknownOutcomeError from error
            raise
        self.batches += 1
        self.last_rows, self.last_seconds = len(items), clock() - began
        if self.on_batch is not None:
            self.on_batch(self.last_rows, self.last_seconds)
        return await self._complete(items, written)

    async def _complete(
        self, items: list[ItemT], written: Sequence[ResultT | Exception | None]
    ) -> list[ResultT | Exception]:
        """Results of a batch that is committed: read back what the insert did not return."""
        missing = [item for item, result in zip(items, written, strict=True) if result is None]
        found = iter(await self._read_back(missing)) if missing else iter(())
        results = [next(found) if result is None else result for result in written]
        # Neither written nor there: it was deleted in between, and the same request may be sent again.
        return [DatabaseUnavailableError() if result is None else result for result in results]

    async def _read_back(self, items: list[ItemT]) -> list[ResultT | None]:
        for _ in range(TRIES_MAX - 1):
            try:
                connection = await self._connected()
                with bounded(connection, SILENCE_MAX_S):
                    return await self.look_up(connection, items)
            except psycopg.OperationalError:
                await asyncio.sleep(RETRY_DELAY_S)
        try:
            return await self.look_up(await self._connected(), items)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError from error

    async def _was_made(self, batch: Uuid) -> bool:
        """Void a batch whose outcome is unknown; True when it turns out to be committed."""
        delay_s = RETRY_DELAY_S
        while True:
            try:
                connection = await self._connected()
                with bounded(connection, SILENCE_MAX_S):
                    if await fetch(connection, _VOID, (batch,)):
                        return False
                    rows = await fetch(connection, _KIND, (batch,))
                    return bool(rows) and rows[0][0] == 0
            except psycopg.Error:
                # The answer is in the database and nowhere else.
                if self._closing:
                    raise DatabaseUnavailableError from None
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_DELAY_MAX_S)

    async def _connected(self) -> Connection:
        if self._connection is not None and has_ended(self._connection):
            await self._connection.close()
            self._connection = None
        if self._connection is None:
            self._connection = await connect(
                self._url, application_name=self._application_name, settings=_SETTINGS
            )
        return self._connection
