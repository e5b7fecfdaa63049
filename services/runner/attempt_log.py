"""Log lines of one attempt: numbered, bounded, sent in chunks to the owner of the shard until it confirms them.

A handler that writes nothing never comes here. Lines leave after 200 ms or 256 KiB, whichever is first, and at
the attempt's end; its result leaves when they are confirmed.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from services.adapters.clock import Clock
from services.adapters.log import get_logger
from services.adapters.wire.tasks import encode_log_chunk
from services.core.ids import shard_of
from services.core.tasks import (
    LOG_ATTEMPT_BYTES_MAX,
    LOG_CHUNK_BYTES_MAX,
    LOG_LINE_BYTES_MAX,
    WARN,
    LogChunk,
    LogLine,
    Task,
)
from weconnect import NodeLog

CHUNK_SECONDS = 0.2
RETRY_SECONDS_MIN = 0.25
RETRY_SECONDS_MAX = 2.0
# What a line costs beside its text and data.
LINE_OVERHEAD_BYTES = 32

# Sends one chunk to the owner of a shard; True when the owner confirmed it, False when nobody did.
Send = Callable[[int, bytes], Awaitable[bool]]

log = get_logger(__name__)


class AttemptLog(NodeLog):
    """What `ctx.log` writes to. Safe in any thread."""

    __slots__ = (
        "_bytes",
        "_closed",
        "_cut",
        "_lines",
        "_lock",
        "_number",
        "_shipper",
        "due",
        "task",
        "then",
        "unsent_bytes",
        "work",
    )  # fmt: skip

    def __init__(self, task: Task, shipper: LogShipper) -> None:
        self.task = task
        self._shipper = shipper
        self._lock = threading.Lock()
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._number = 0
        self._cut = False
        self._closed = False
        self.unsent_bytes = 0
        # Of the shipper, in the loop's thread: the timer of the next chunk, the task that sends, and whom to
        # tell when all is confirmed.
        self.due: asyncio.TimerHandle | None = None
        self.work: asyncio.Task[None] | None = None
        self.then: Callable[[], None] | None = None

    def write(self, level: int, message: str, data: dict[str, Any]) -> None:
        """Take one line. Lines after the attempt's end are dropped: its record is closed."""
        text, json = _line_bytes(message, data)
        at = self._shipper.now()
        with self._lock:
            if self._closed or self._cut:
                return
            size = len(text) + len(json) + LINE_OVERHEAD_BYTES
            if self._bytes + size > LOG_ATTEMPT_BYTES_MAX:
                self._cut = True
                text, json, level = (
                    b"log cut: the lines of an attempt may have %d bytes" % LOG_ATTEMPT_BYTES_MAX,
                    b"",
                    WARN,
                )
                size = len(text) + LINE_OVERHEAD_BYTES
            self._number += 1
            self._bytes += size
            self.unsent_bytes += size
            self._lines.append(LogLine(self._number, at, level, text, json))
            first = len(self._lines) == 1
        if first or self.unsent_bytes >= LOG_CHUNK_BYTES_MAX:
            self._shipper.lines_came(self)

    def close(self) -> None:
        """Take no further lines."""
        with self._lock:
            self._closed = True

    @property
    def empty(self) -> bool:
        """True when every line was handed out by `next_chunk`."""
        return not self._lines

    def next_chunk(self) -> LogChunk | None:
        """Lines for one message, in order; None when there are none."""
        lines: list[LogLine] = []
        size = 0
        with self._lock:
            while self._lines:
                line = self._lines[0]
                line_bytes = len(line.message) + len(line.data) + LINE_OVERHEAD_BYTES
                if lines and size + line_bytes > LOG_CHUNK_BYTES_MAX:
                    break
                size += line_bytes
                lines.append(self._lines.popleft())
            self.unsent_bytes -= size
        if not lines:
            return None
        return LogChunk(self.task.execution_id, self.task.node, self.task.attempt, lines)


class LogShipper:
    """Sends the lines of all attempts of this runner."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, send: Send, clock: Clock, draw: Callable[[], float]
    ) -> None:
        self._draw = draw
        self._loop = loop
        self._send = send
        self._clock = clock
        self._thread = threading.get_ident()
        self.open = 0

    def now(self) -> int:
        """Database time for a line."""
        return self._clock.now()

    def lines_came(self, lines: AttemptLog) -> None:
        """Called by an attempt's log for the first line that waits, and when enough wait; in any thread."""
        if threading.get_ident() == self._thread:
            self._schedule(lines)
        else:
            try:
                self._loop.call_soon_threadsafe(self._schedule, lines)
            except RuntimeError:
                return  # the loop is closed: the process ends

    def finish(self, lines: AttemptLog, then: Callable[[], None]) -> None:
        """Send what waits now, and call `then` once every line is confirmed."""
        lines.close()
        lines.then = then
        self._begin(lines)

    def _schedule(self, lines: AttemptLog) -> None:
        if lines.work is not None:
            return
        if lines.unsent_bytes >= LOG_CHUNK_BYTES_MAX:
            self._begin(lines)
        elif lines.due is None:
            lines.due = self._loop.call_later(CHUNK_SECONDS, self._begin, lines)

    def _begin(self, lines: AttemptLog) -> None:
        if lines.due is not None:
            lines.due.cancel()
            lines.due = None
        if lines.work is not None:
            return
        if lines.empty:
            self._confirmed(lines)
            return
        self.open += 1
        lines.work = self._loop.create_task(self._ship(lines))

    async def _ship(self, lines: AttemptLog) -> None:
        shard = shard_of(lines.task.execution_id)
        try:
            while (chunk := lines.next_chunk()) is not None:
                data = encode_log_chunk(chunk)
                wait_s = RETRY_SECONDS_MIN
                while not await self._send(shard, data):
                    log.debug("log lines are not confirmed yet", shard=shard)
                    await asyncio.sleep(wait_s * (0.5 + self._draw() / 2))
                    wait_s = min(wait_s * 2, RETRY_SECONDS_MAX)
        finally:
            self.open -= 1
            lines.work = None
        self._confirmed(lines)

    def _confirmed(self, lines: AttemptLog) -> None:
        then, lines.then = lines.then, None
        if then is not None:
            then()


def _line_bytes(message: str, data: dict[str, Any]) -> tuple[bytes, bytes]:
    """Text and data of a line, within the bound of a line; what is cut says so."""
    text = str(message).encode("utf-8", "replace")
    json = b""
    if data:
        try:
            json = orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)
        except (TypeError, ValueError) as error:
            json = orjson.dumps({"not_json": str(error)})
        if len(json) > LOG_LINE_BYTES_MAX // 2:
            json = orjson.dumps({"cut": f"{len(json)} bytes of data are over {LOG_LINE_BYTES_MAX // 2}"})
    room = LOG_LINE_BYTES_MAX - len(json)
    if len(text) > room:
        mark = f"… [cut: {len(text)} bytes]".encode()
        text = text[: room - len(mark)].decode("utf-8", "ignore").encode() + mark
    return text, json
