"""Open streams of a server: they end with their token, after an hour, when nobody reads, and in a drain."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.adapters.clock import Clock
from services.core.refusals import Kind, Refusal, unauthenticated, unavailable
from services.core.units import SECOND

STREAM_AGE_SECONDS_MAX = 3600.0
WRITE_SECONDS_MAX = 10.0
WATCH_INTERVAL_SECONDS = 1.0
RESUME_AFTER_US = SECOND // 2


@dataclass(slots=True)
class _Stream:
    expires_at: int
    opened: float
    writing_since: float = 0.0
    ending: Refusal | None = None


class OpenStreams:
    """The tasks that serve streams, each known by itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._streams: dict[asyncio.Task[object], _Stream] = {}
        self._draining = False

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, expires_at: int) -> None:
        """Register the running task; `expires_at` 0: never. Raises Refusal in a drain."""
        if self._draining:
            raise draining()
        task = asyncio.current_task()
        assert task is not None
        self._streams[task] = _Stream(expires_at, self._clock.monotonic())

    def remove(self) -> Refusal | None:
        """Forget the running task; the refusal that was to end it, if one was."""
        task = asyncio.current_task()
        stream = self._streams.pop(task, None) if task is not None else None
        return stream.ending if stream is not None else None

    def writing(self, active: bool) -> None:
        """The running task begins or has ended a write."""
        stream = self._streams.get(asyncio.current_task())  # type: ignore[arg-type]
        if stream is not None:
            stream.writing_since = self._clock.monotonic() if active else 0.0

    async def run_once(self) -> dict[str, int]:
        """End the streams whose token or age is over and those whose reader does not read."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        ended = 0
        for task, stream in list(self._streams.items()):
            refusal = _overdue(stream, now, monotonic)
            if refusal is not None:
                ended += self._end(task, stream, refusal)
        return {"ended": ended}

    def drain(self) -> list[asyncio.Task[object]]:
        """End all streams; the tasks that still have to say so."""
        self._draining = True
        for task, stream in list(self._streams.items()):
            self._end(task, stream, draining())
        return list(self._streams)

    def _end(self, task: asyncio.Task[object], stream: _Stream, refusal: Refusal) -> int:
        if stream.ending is not None:
            return 0
        stream.ending = refusal
        task.cancel()
        return 1


def _overdue(stream: _Stream, now: int, monotonic: float) -> Refusal | None:
    if stream.expires_at and now >= stream.expires_at:
        return unauthenticated(
            "TOKEN_EXPIRED", "the stream's token has expired; open it again with a fresh one"
        )
    if stream.writing_since and monotonic - stream.writing_since > WRITE_SECONDS_MAX:
        return Refusal(
            Kind.RESOURCE_EXHAUSTED,
            "SLOW_READER",
            f"the stream was not read for {WRITE_SECONDS_MAX:g} s; resume it where you stopped",
            resource=("stream", "unread messages"),
            retry_after_us=RESUME_AFTER_US,
        )
    if monotonic - stream.opened > STREAM_AGE_SECONDS_MAX:
        return unavailable(
            "STREAM_AGE", "the stream is an hour old; resume it where you stopped", RESUME_AFTER_US
        )
    return None


def draining() -> Refusal:
    """This process goes away; another one serves the same."""
    return unavailable("DRAINING", "the server is draining; resume where you stopped", RESUME_AFTER_US)
