"""`adapters.bus.TaskPublisher` in memory: repeats, under the same id, until the work queue has confirmed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

from services.adapters.bus import (
    MESSAGE_BYTES_MAX,
    ConfirmedCallback,
    ConsumerState,
    Disconnected,
    FailedCallback,
    PayloadTooLarge,
    QueueError,
    StreamState,
)
from services.adapters.memory.work_queue import NO_STREAM, MemoryWorkQueue
from services.adapters.nats.topology import consumer_name

UNCONFIRMED_MAX = 20_000
REPEAT_AFTER_SECONDS = 2.0


class MemoryTaskPublisher:
    """The scheduler's end of a work queue in memory."""

    def __init__(
        self,
        work_queue: MemoryWorkQueue,
        on_confirmed: ConfirmedCallback,
        on_failed: FailedCallback,
        on_stream_missing: Callable[[], None] | None = None,
    ) -> None:
        """As `adapters.nats.publisher.NatsTaskPublisher`; `on_failed` is never called."""
        self._work_queue = work_queue
        self._hub = work_queue.hub
        self._on_confirmed = on_confirmed
        self._on_failed = on_failed
        self._on_stream_missing = on_stream_missing
        self._unconfirmed: dict[str, tuple[str, bytes]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False
        self.refused = ""
        """Why publications are not taken at the moment, empty when they are."""
        self._hub.watch(self._on_server)

    def publish(self, queue: str, message_id: str, data: bytes) -> bool:
        """Puts a task on a task queue; see `adapters.bus.TaskPublisher.publish`."""
        consumer_name(queue)  # raises for a malformed queue
        if len(data) > MESSAGE_BYTES_MAX:
            raise PayloadTooLarge(f"task {message_id}: {len(data)} bytes; at most {MESSAGE_BYTES_MAX}")
        if not message_id.isprintable() or not message_id:
            raise ValueError(f"malformed message id {message_id!r}")
        if message_id in self._unconfirmed:
            return True
        if len(self._unconfirmed) >= UNCONFIRMED_MAX:
            return False
        self._unconfirmed[message_id] = (queue, data)
        self._send(message_id)
        return True

    def withdraw(self, message_id: str) -> bool:
        """Stops repeating a message; see `adapters.bus.TaskPublisher.withdraw`."""
        timer = self._timers.pop(message_id, None)
        if timer is not None:
            timer.cancel()
        return self._unconfirmed.pop(message_id, None) is not None

    @property
    def unconfirmed(self) -> int:
        """How many messages are neither confirmed nor withdrawn."""
        return len(self._unconfirmed)

    def _send(self, message_id: str) -> None:
        if self._closed or message_id not in self._unconfirmed:
            return
        queue, data = self._unconfirmed[message_id]
        if (timer := self._timers.pop(message_id, None)) is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._timers[message_id] = loop.call_later(REPEAT_AFTER_SECONDS, self._send, message_id)
        self._hub.carry(functools.partial(self._store, queue, message_id, data))

    def _store(self, queue: str, message_id: str, data: bytes) -> None:
        """The message has reached the work queue."""
        if self._hub.stopped:
            return
        try:
            sequence, duplicate = self._work_queue.store(queue, message_id, data)
        except QueueError as error:
            self._hub.carry(functools.partial(self._refused, error))
            return
        self._hub.carry(functools.partial(self._confirmed, message_id, sequence, duplicate))

    def _confirmed(self, message_id: str, sequence: int, duplicate: bool) -> None:
        if self._closed or not self.withdraw(message_id):
            return
        self.refused = ""
        self._on_confirmed(message_id, sequence, duplicate)

    def _refused(self, error: QueueError) -> None:
        self.refused = str(error)
        if self._closed or error.code != NO_STREAM:
            return
        if self._work_queue.ensure() and self._on_stream_missing is not None:
            self._on_stream_missing()
        self._send_all()

    def _on_server(self, up: bool) -> None:
        if up:
            self._send_all()

    def _send_all(self) -> None:
        for message_id in list(self._unconfirmed):
            self._send(message_id)

    async def stream_state(self) -> StreamState:
        """Reads the stream's state. Raises `Disconnected` or `QueueError`."""
        await self._reach()
        return self._work_queue.state()

    async def has_sequence(self, sequence: int) -> bool:
        """Whether the stream still holds this sequence."""
        await self._reach()
        return self._work_queue.has_sequence(sequence)

    async def consumer_state(self, queue: str) -> ConsumerState:
        """Reads how far a task queue's runners are."""
        await self._reach()
        return self._work_queue.consumer_state(queue)

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self._hub.stopped:
            raise Disconnected("no connection")

    async def close(self) -> None:
        """Stops repeating. What is unconfirmed stays unknown."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._unconfirmed.clear()
