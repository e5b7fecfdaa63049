"""One connection to a NATS server, and the only place that reaches into nats-py (2.16).

nats-py's own hot path makes a queue and a task for each subscription and about ten awaits for each message,
12 µs in all. This subclass takes over the two ends of it (`send`, `_process_msg`), 4 µs in all, and leaves the
protocol, TLS and authentication to the library. Reconnecting is `connection.NatsBus`'s business: a client
connects once and, when its connection ends, for whatever reason, it is thrown away (`abandon`), because a
client that could not send what it had buffered may otherwise wait for its socket for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from services.adapters.nats.credentials import read_credentials

logger = logging.getLogger(__name__)

RawCallback = Callable[[bytes, str, str, bytes | None], None]
"""Called with (data, reply subject or "", subject, raw header block or None)."""

CONNECT_TIMEOUT_SECONDS = 3
NEVER_SECONDS = 10**9


class NatsClient(Client):
    """A connection that is made once and never re-made."""

    def __init__(self, callbacks: dict[int, RawCallback], on_lost: Callable[[NatsClient], None]) -> None:
        """`callbacks` is the live table of subscriptions by id; `on_lost` is called once, when it is over."""
        super().__init__()
        self._callbacks = callbacks
        self._on_lost: Callable[[NatsClient], None] | None = on_lost
        self.last_refusal: Exception | None = None

    async def open(self, servers: list[str], credentials: str | None, name: str) -> None:
        """Connects to the first server that answers. Raises what nats-py raises, or TimeoutError."""
        options: dict[str, Any] = {}
        if credentials:
            identity = read_credentials(Path(credentials))
            options = {"user_jwt_cb": identity.jwt, "signature_cb": identity.sign}
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await self.connect(
                list(servers),
                name=name,
                allow_reconnect=False,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                reconnect_time_wait=0,
                max_reconnect_attempts=1,
                ping_interval=NEVER_SECONDS,
                skip_subject_validation=True,
                error_cb=self._noted,
                closed_cb=self._ended,
                **options,
            )

    def send(self, command: bytes) -> None:
        """Queues a protocol command; the library's flusher writes all of them in one go."""
        self._pending.append(command)
        self._pending_data_size += len(command)
        queue = self._flush_queue
        if queue is not None and queue.empty():
            queue.put_nowait(asyncio.get_running_loop().create_future())

    async def pong(self) -> bool:
        """True when the server has answered a ping, and so has taken all that was sent before; False: lost.

        Shielded, because the library's reader dies of an answer to a ping whose waiter was cancelled.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pongs.append(answer)
        self.send(b"PING\r\n")
        return await asyncio.shield(answer)

    def abandon(self) -> None:
        """Cuts the socket and forgets what was unsent. Never waits; `on_lost` is not called any more."""
        self._on_lost = None
        self._status = Client.CLOSED
        for task in (self._reading_task, self._flusher_task, self._ping_interval_task):
            if task is not None:
                task.cancel()
        for answer in self._pongs:
            if not answer.done():
                answer.set_result(False)
        self._pending.clear()
        self._pending_data_size = 0
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            with contextlib.suppress(Exception):
                writer.transport.abort()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        callback = self._callbacks.get(sid)
        if callback is None:
            return
        try:
            callback(data, reply.decode(), subject.decode(), headers)
        except Exception:
            logger.exception("callback failed", extra={"subject": subject.decode(errors="replace")})

    async def _noted(self, error: Exception) -> None:
        self.last_refusal = error
        logger.debug("nats: %r", error)

    async def _ended(self) -> None:
        self._lose()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # The library's own closing may wait for a dead socket; whoever cares is told first.
        self._lose()
        await super()._close(status, do_cbs)

    def _lose(self) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(self)
