"""The work queue in memory: stores each message id once, delivers until acknowledged, forgets everything when wiped.

It keeps what JetStream promises, and is settled as JetStream is, by messages to a delivery's reply subject.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from services.adapters.bus import ConsumerState, QueueError, StreamState
from services.adapters.clock import Clock
from services.adapters.memory.hub import MemoryHub
from services.adapters.nats.delivery import ACK, IN_PROGRESS, NAK, TERM
from services.adapters.nats.topology import DEFAULT_LIMITS, STREAM, QueueLimits, consumer_name, task_subject

ACKS = f"$JS.ACK.{STREAM}.*.*.*.*.*.*"
NO_STREAM = 10059
NO_ROOM = 10077
OVERHEAD_BYTES = 64


class Taker(Protocol):
    """A puller, as the work queue sees it."""

    @property
    def room(self) -> int:
        """How many more tasks it would take."""

    def offer(self, data: bytes, subject: str, reply: str) -> None:
        """Sends it a task."""


@dataclass(slots=True)
class _Message:
    queue: str
    data: bytes
    stored_at: int
    delivered: int = 0
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Consumer:
    ready: list[int] = field(default_factory=list)  # a heap: what is redelivered goes first
    unacknowledged: set[int] = field(default_factory=set)
    takers: deque[Taker] = field(default_factory=deque)
    delivered_sequence: int = 0


class MemoryWorkQueue:
    """The stream and its consumers."""

    def __init__(self, hub: MemoryHub, clock: Clock, limits: QueueLimits = DEFAULT_LIMITS) -> None:
        self.hub = hub
        self._clock = clock
        self._limits = limits
        self._messages: dict[int, _Message] = {}
        self._known: dict[str, tuple[int, int]] = {}
        self._consumers: dict[str, _Consumer] = {}
        self._created_at = 0
        self._last = 0
        self._bytes = 0
        hub.subscribe(ACKS, "", self._on_settled)
        self.ensure()

    def ensure(self) -> bool:
        """Makes the stream if it is missing. True: it was."""
        if self._created_at:
            return False
        self._created_at = max(self._clock.now(), self._last + 1)
        self._last = self._created_at - 1
        return True

    def wipe(self) -> None:
        """Loses everything, the stream itself included. Pullers stay and must make it again."""
        for message in self._messages.values():
            if message.timer is not None:
                message.timer.cancel()
        self._messages.clear()
        self._known.clear()
        for consumer in self._consumers.values():
            consumer.ready.clear()
            consumer.unacknowledged.clear()
            consumer.delivered_sequence = 0
        self._created_at = self._bytes = 0

    def store(self, queue: str, message_id: str, data: bytes) -> tuple[int, bool]:
        """Stores a task: (sequence, duplicate). Raises `QueueError` when there is no stream or no room."""
        self._require()
        now = self._clock.now()
        sequence, stored_at = self._known.get(message_id, (0, 0))
        if sequence and now - stored_at < self._limits.duplicate_window_seconds * 1_000_000:
            return sequence, True
        if self._bytes + len(data) + OVERHEAD_BYTES > self._limits.stream_bytes_max:
            raise QueueError(NO_ROOM, "maximum bytes exceeded")
        self._last += 1
        self._known[message_id] = (self._last, now)
        self._messages[self._last] = _Message(queue, data, now)
        self._bytes += len(data) + OVERHEAD_BYTES
        heapq.heappush(self.consumer(queue).ready, self._last)
        self.pump(queue)
        return self._last, False

    def consumer(self, queue: str) -> _Consumer:
        """The consumer of a task queue."""
        return self._consumers.setdefault(queue, _Consumer())

    def join(self, queue: str, taker: Taker) -> None:
        """A puller wants tasks of this queue from now on."""
        self.consumer(queue).takers.append(taker)

    def leave(self, queue: str, taker: Taker) -> None:
        """A puller wants no more."""
        takers = self.consumer(queue).takers
        if taker in takers:
            takers.remove(taker)

    def pump(self, queue: str) -> None:
        """Gives what is ready to pullers with room, in turns."""
        consumer = self.consumer(queue)
        while consumer.ready and not self.hub.stopped:
            for _ in range(len(consumer.takers)):
                taker = consumer.takers[0]
                consumer.takers.rotate(-1)
                if taker.room > 0:
                    break
            else:
                return
            sequence = heapq.heappop(consumer.ready)
            message = self._messages.get(sequence)
            if message is not None:
                self._deliver(consumer, sequence, message, taker)

    def _deliver(self, consumer: _Consumer, sequence: int, message: _Message, taker: Taker) -> None:
        message.delivered += 1
        consumer.unacknowledged.add(sequence)
        consumer.delivered_sequence = max(consumer.delivered_sequence, sequence)
        self._wait(sequence, message)
        stored = message.stored_at * 1000
        reply = (
            f"$JS.ACK.{STREAM}.{consumer_name(message.queue)}.{message.delivered}"
            f".{sequence}.{sequence}.{stored}.{len(consumer.ready)}"
        )
        taker.offer(message.data, task_subject(message.queue), reply)

    def _wait(self, sequence: int, message: _Message) -> None:
        if message.timer is not None:
            message.timer.cancel()
        loop = asyncio.get_running_loop()
        again = functools.partial(self._again, sequence)
        message.timer = loop.call_later(self._limits.ack_wait_seconds, again)

    def _again(self, sequence: int) -> None:
        """It was given back, or nobody has acknowledged it in time."""
        message = self._messages.get(sequence)
        if message is None:
            return
        if message.timer is not None:
            message.timer.cancel()
            message.timer = None
        consumer = self.consumer(message.queue)
        if sequence in consumer.unacknowledged:
            consumer.unacknowledged.discard(sequence)
            heapq.heappush(consumer.ready, sequence)
            self.pump(message.queue)

    def _on_settled(self, data: bytes, reply: str, subject: str) -> None:
        sequence = int(subject.split(".")[5])
        message = self._messages.get(sequence)
        if message is None or sequence not in self.consumer(message.queue).unacknowledged:
            return
        if data in (ACK, TERM):
            self._remove(sequence, message)
        elif data == IN_PROGRESS:
            self._wait(sequence, message)
        elif data.startswith(NAK):
            self._back(sequence, message, data[len(NAK) :])

    def _back(self, sequence: int, message: _Message, options: bytes) -> None:
        delay = json.loads(options)["delay"] / 1e9 if options else 0.0
        if message.timer is not None:
            message.timer.cancel()
        message.timer = asyncio.get_running_loop().call_later(delay, self._again, sequence)

    def _remove(self, sequence: int, message: _Message) -> None:
        if message.timer is not None:
            message.timer.cancel()
        self.consumer(message.queue).unacknowledged.discard(sequence)
        del self._messages[sequence]
        self._bytes -= len(message.data) + OVERHEAD_BYTES

    def _require(self) -> None:
        if not self._created_at:
            raise QueueError(NO_STREAM, "stream not found")

    def state(self) -> StreamState:
        """What it holds. Raises `QueueError` when there is no stream."""
        self._require()
        return StreamState(
            created_at=self._created_at,
            first_sequence=min(self._messages, default=self._last + 1),
            last_sequence=self._last,
            messages=len(self._messages),
            bytes=self._bytes,
        )

    def has_sequence(self, sequence: int) -> bool:
        """Whether it holds this sequence. Raises `QueueError` when there is no stream."""
        self._require()
        return sequence in self._messages

    def consumer_state(self, queue: str) -> ConsumerState:
        """How far a task queue's runners are. Raises `QueueError` when there is no stream."""
        self._require()
        consumer = self.consumer(queue)
        unsettled = {*consumer.ready, *consumer.unacknowledged}
        return ConsumerState(
            pending=sum(1 for sequence in consumer.ready if not self._messages[sequence].delivered),
            unacknowledged=len(consumer.unacknowledged),
            redelivered=sum(
                1 for sequence in consumer.unacknowledged if self._messages[sequence].delivered > 1
            ),
            waiting=sum(1 for taker in consumer.takers if taker.room > 0),
            delivered_sequence=consumer.delivered_sequence,
            ack_floor_sequence=min(unsettled, default=self._last + 1) - 1,
        )
