"""Waiting for ends: hints wake, one query reads all that ended together, a sweep asks after the silent ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from services.adapters.log import get_logger
from services.adapters.postgres.watching import WatchStore
from services.api.metrics import ApiMetrics
from services.core.records import ExecutionRecord

IDS_MAX = 1_000

log = get_logger(__name__)
Ending = asyncio.Future[ExecutionRecord]


class Ends:
    """Everybody who waits for an execution's end."""

    def __init__(self, store: WatchStore, metrics: ApiMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._waiting: dict[bytes, list[Ending]] = {}
        self._ended: dict[bytes, None] = {}
        self._reading: asyncio.Task[None] | None = None
        self._released = False
        self._asked_before: set[bytes] = set()
        self._ask_all = False

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def expect(self, execution_id: bytes) -> Iterator[Ending]:
        """A future of the record with which the execution ends; register before asking whether it has."""
        ending: Ending = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(execution_id, []).append(ending)
        if self._released:
            ending.set_exception(TimeoutError())
        try:
            yield ending
        finally:
            if not ending.cancel() and not ending.cancelled():
                ending.exception()  # nobody may have come to ask
            others = self._waiting.get(execution_id)
            if others is not None:
                if ending in others:
                    others.remove(ending)
                if not others:
                    del self._waiting[execution_id]

    def release(self) -> None:
        """In a drain nobody waits any longer: everyone is told that time is up, and answers with the state."""
        self._released = True
        for endings in self._waiting.values():
            for ending in endings:
                if not ending.done():
                    ending.set_exception(TimeoutError())

    def hint(self, execution_ids: Iterable[bytes]) -> None:
        """These have ended, it is said: read them, if somebody waits."""
        waiting = self._waiting
        for execution_id in execution_ids:
            if execution_id in waiting:
                self._ended[execution_id] = None
        if self._ended and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read_hinted())

    def missed(self) -> None:
        """Hints were lost: the next sweep asks after everybody."""
        self._ask_all = True

    async def sweep(self) -> Mapping[str, int]:
        """Ask once after all that were silent since the sweep before, or after all when hints were missed."""
        ids = [i for i in self._waiting if self._ask_all or i in self._asked_before]
        self._ask_all = False
        self._asked_before = set(self._waiting)
        found = 0
        for first in range(0, len(ids), IDS_MAX):
            found += await self._read(ids[first : first + IDS_MAX])
        if found:
            self._metrics.swept.of("end").inc(found)
        return {"waiting": len(ids), "found": found}

    async def _read_hinted(self) -> None:
        while self._ended:
            ids = list(self._ended)[:IDS_MAX]
            for execution_id in ids:
                del self._ended[execution_id]
            try:
                await self._read(ids)
            except Exception as error:  # hints are only hints: the sweep reads what this did not
                log.warning("ends were not read; the sweep will", exc_info=error)
                self._ask_all = True

    async def _read(self, ids: list[bytes]) -> int:
        found = 0
        for record in await self._store.ended(ids):
            for ending in self._waiting.pop(record.start.execution_id, ()):
                if not ending.done():
                    ending.set_result(record)
                    found += 1
        return found
