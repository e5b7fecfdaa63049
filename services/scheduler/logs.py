"""Log lines on their way from runners to rows: numbered and stored outside the group commit, then confirmed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from services.adapters.bus import Bus
from services.adapters.log import get_logger
from services.adapters.nats import topology
from services.adapters.postgres.logs import LogStore
from services.core.ids import uuid_text
from services.core.records import LogRow
from services.core.tasks import LogChunk
from services.scheduler.live import Live
from services.scheduler.loading import Loader

# Chunks (256 KiB at most, each) stored by one statement.
CHUNKS_MAX = 32
# Chunks that may wait; what comes on top is dropped unconfirmed, so its runner sends it again.
CHUNKS_WAITING_MAX = 1024
BACKOFF_SECONDS = 0.5

log = get_logger(__name__)


class LogWriter:
    """Stores chunks of log lines in order of arrival, many in one statement that skips what is there."""

    def __init__(
        self,
        store: LogStore,
        bus: Bus,
        loader: Loader,
        live: dict[bytes, Live],
        owns: Callable[[bytes], bool],
    ) -> None:
        self._store = store
        self._bus = bus
        self._loader = loader
        self._live = live
        self._owns = owns
        self._waiting: deque[tuple[LogChunk, str]] = deque()
        self._wake = asyncio.Event()
        self.lines = 0

    def put(self, chunk: LogChunk, reply: str) -> None:
        """Queue a chunk; `reply` is confirmed once its lines are stored."""
        if len(self._waiting) < CHUNKS_WAITING_MAX:
            self._waiting.append((chunk, reply))
            self._wake.set()

    async def run(self) -> None:
        """Store until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                count = min(len(self._waiting), CHUNKS_MAX)
                chunks = [self._waiting.popleft() for _ in range(count)]
                try:
                    await self._write([(c, r) for c, r in chunks if self._owns(c.execution_id)])
                except Exception as error:  # unconfirmed lines are sent again by their runners
                    log.warning("log lines not stored", error=str(error), chunks=len(chunks))
                    await asyncio.sleep(BACKOFF_SECONDS)

    async def _write(self, chunks: list[tuple[LogChunk, str]]) -> None:
        missing = {chunk.execution_id for chunk, _ in chunks if chunk.execution_id not in self._live}
        if missing:
            await self._loader.load(list(missing))
        rows: list[LogRow] = []
        for chunk, _ in chunks:
            live = self._live.get(chunk.execution_id)
            # An execution that has ended takes no more lines: they are of an attempt that was abandoned.
            if live is not None and chunk.node < len(live.state.workflow.nodes):
                rows.extend(_rows(live, chunk))
        if rows:
            await self._store.append(rows)
            self.lines += len(rows)
        for _, reply in chunks:
            if reply:
                self._bus.publish(reply, b"")
        for execution_id in {row.execution_id for row in rows}:
            self._bus.publish(topology.logs_subject(uuid_text(execution_id)), b"")


def _rows(live: Live, chunk: LogChunk) -> list[LogRow]:
    compiled = live.state.workflow.nodes[chunk.node]
    return [
        LogRow(
            execution_id=chunk.execution_id,
            node=chunk.node,
            node_id=compiled.id,
            node_name=compiled.name,
            node_type=compiled.type,
            attempt=chunk.attempt,
            number=line.number,
            level=line.level,
            message=line.message,
            at=line.at,
            data=line.data or None,
            execution_step=live.state.sequence,
        )
        for line in chunk.lines
    ]
