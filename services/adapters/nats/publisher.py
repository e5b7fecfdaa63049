"""The scheduler's end of the work queue: publishes, and repeats until JetStream has confirmed.

All publications share one inbox; nobody awaits them one by one. What is not confirmed in time is sent again with
the same message id, which JetStream knows for two minutes, so a repeat is stored once. If the stream is gone it is
made again, and everything unconfirmed follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Sequence

import orjson

from services.adapters.bus import (
    MESSAGE_BYTES_MAX,
    BusError,
    ConfirmedCallback,
    ConsumerState,
    FailedCallback,
    PayloadTooLarge,
    QueueError,
    StreamState,
)
from services.adapters.nats import jetstream
from services.adapters.nats.connection import NatsBus
from services.adapters.nats.requests import NO_RESPONDERS, new_inbox, status_of
from services.adapters.nats.topology import (
    DEFAULT_LIMITS,
    STREAM,
    QueueLimits,
    consumer_name,
    ensure_topology,
    task_subject,
)

logger = logging.getLogger(__name__)

UNCONFIRMED_MAX = 20_000
"""Messages that may be unconfirmed."""
UNCONFIRMED_BYTES_MAX = 64 << 20
"""Bytes of payload that may be unconfirmed."""
REPEAT_AFTER_SECONDS = 2.0
"""A publication that is unconfirmed for so long is sent again."""
SWEEP_SECONDS = 0.5
RESTORE_WAIT_SECONDS = 0.1
"""Pause before each attempt to make the topology again."""
PASSING_ERRORS = range(500, 600)
"""Status codes of refusals that pass: no room, no leader, not ready. All others are for good."""


class _Publication:
    """One message on its way."""

    __slots__ = ("data", "headers", "message_id", "sent_at", "subject", "token")

    def __init__(self, token: str, message_id: str, subject: str, data: bytes) -> None:
        self.token = token
        self.message_id = message_id
        self.subject = subject
        self.headers = b"Nats-Msg-Id: %b\r\n" % message_id.encode()
        self.data = data
        self.sent_at = 0.0


class NatsTaskPublisher:
    """`adapters.bus.TaskPublisher` over JetStream. Belongs to its bus's event loop."""

    def __init__(
        self,
        bus: NatsBus,
        on_confirmed: ConfirmedCallback,
        on_failed: FailedCallback,
        on_stream_missing: Callable[[], None] | None = None,
        queues: Sequence[str] = (),
        limits: QueueLimits = DEFAULT_LIMITS,
    ) -> None:
        """`on_stream_missing` is called once the missing stream is made again; `queues` are then made with it."""
        self._bus = bus
        self._on_confirmed = on_confirmed
        self._on_failed = on_failed
        self._on_stream_missing = on_stream_missing
        self._queues = set(queues)
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._tokens = itertools.count(1)
        self._publications: dict[str, _Publication] = {}  # by token, least recently sent first
        self._by_message_id: dict[str, _Publication] = {}
        self._bytes = 0
        self._inbox = new_inbox()
        self._repair: asyncio.Task[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._handles = [
            bus.subscribe_raw(f"{self._inbox}.*", self._on_answer),
            bus.on_reconnected(self._send_all),
        ]
        self.refused = ""
        """Why the server does not take publications at the moment, "" when it does."""

    def publish(self, queue: str, message_id: str, data: bytes) -> bool:
        """Puts a task on a task queue; see `adapters.bus.TaskPublisher.publish`."""
        subject = task_subject(queue)
        if len(data) > MESSAGE_BYTES_MAX:
            raise PayloadTooLarge(f"task {message_id}: {len(data)} bytes; at most {MESSAGE_BYTES_MAX}")
        if not message_id.isprintable() or not message_id:
            raise ValueError(f"malformed message id {message_id!r}")
        if message_id in self._by_message_id:
            return True
        if len(self._publications) >= UNCONFIRMED_MAX or self._bytes + len(data) > UNCONFIRMED_BYTES_MAX:
            return False
        publication = _Publication(str(next(self._tokens)), message_id, subject, data)
        self._by_message_id[message_id] = publication
        self._bytes += len(data)
        self._queues.add(queue)
        self._send(publication)
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._repeat)
        return True

    def withdraw(self, message_id: str) -> bool:
        """Stops repeating a message; see `adapters.bus.TaskPublisher.withdraw`."""
        publication = self._by_message_id.get(message_id)
        if publication is None:
            return False
        self._forget(publication)
        return True

    @property
    def unconfirmed(self) -> int:
        """How many messages are neither confirmed nor failed nor withdrawn."""
        return len(self._publications)

    def _send(self, publication: _Publication) -> None:
        publication.sent_at = self._loop.time()
        self._publications[publication.token] = publication
        self._bus.publish_now(
            publication.subject, publication.data, f"{self._inbox}.{publication.token}", publication.headers
        )

    def _forget(self, publication: _Publication) -> None:
        del self._publications[publication.token]
        del self._by_message_id[publication.message_id]
        self._bytes -= len(publication.data)

    def _on_answer(self, data: bytes, reply: str, subject: str, headers: bytes | None) -> None:
        publication = self._publications.get(subject[subject.rfind(".") + 1 :])
        if publication is None:
            return
        if headers is not None and status_of(headers) == NO_RESPONDERS:
            self._restore_stream()
            return
        answer = orjson.loads(data)
        problem = answer.get("error")
        if problem is None:
            self.refused = ""
            self._forget(publication)
            self._on_confirmed(publication.message_id, answer["seq"], answer.get("duplicate", False))
            return
        error = QueueError(problem.get("err_code", 0), problem.get("description", ""))
        self.refused = str(error)
        if problem.get("code", 0) in PASSING_ERRORS or self._full(error):
            logger.warning("nats: task not taken: %s", error)
            return  # the sweep repeats it
        self._forget(publication)
        self._on_failed(publication.message_id, error)

    @staticmethod
    def _full(error: QueueError) -> bool:
        return error.description.startswith("maximum ")

    def _repeat(self) -> None:
        """Sends again what waits for its confirmation for too long, oldest first."""
        self._sweep = None
        before = self._loop.time() - REPEAT_AFTER_SECONDS
        for publication in list(self._publications.values()):
            if publication.sent_at > before:
                break
            self._resend(publication)
        if self._publications:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._repeat)

    def _send_all(self) -> None:
        for publication in list(self._publications.values()):
            self._resend(publication)

    def _resend(self, publication: _Publication) -> None:
        del self._publications[publication.token]
        self._send(publication)

    def _restore_stream(self) -> None:
        """Makes the topology again, once for all who found it missing, and then sends everything again."""
        if self._repair is None or self._repair.done():
            self._repair = asyncio.create_task(self._restore())

    async def _restore(self) -> None:
        while True:
            await asyncio.sleep(RESTORE_WAIT_SECONDS)
            try:
                await ensure_topology(self._bus, sorted(self._queues), self._limits)
                break
            except BusError as error:
                self.refused = str(error)
                logger.warning("nats: cannot make the topology: %s", error)
        self._send_all()
        if self._on_stream_missing is not None:
            self._on_stream_missing()

    async def stream_state(self) -> StreamState:
        """Reads the stream's state. Raises `BusError`; `QueueError` when there is no stream."""
        return jetstream.stream_state(await jetstream.call(self._bus, f"STREAM.INFO.{STREAM}"))

    async def has_sequence(self, sequence: int) -> bool:
        """Whether the stream still holds this sequence; a work queue deletes what is acknowledged."""
        return await jetstream.has_sequence(self._bus, STREAM, sequence)

    async def consumer_state(self, queue: str) -> ConsumerState:
        """Reads how far a task queue's runners are. Raises `BusError`."""
        info = await jetstream.call(self._bus, f"CONSUMER.INFO.{STREAM}.{consumer_name(queue)}")
        return jetstream.consumer_state(info)

    async def close(self) -> None:
        """Stops repeating. What is unconfirmed stays unknown."""
        for handle in self._handles:
            handle.unsubscribe()
        if self._sweep is not None:
            self._sweep.cancel()
        if self._repair is not None:
            self._repair.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._repair
        self._publications.clear()
        self._by_message_id.clear()
        self._bytes = 0
