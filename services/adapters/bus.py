"""The ports of messaging: what processes may expect of a bus, of a work queue's two ends, and of nothing more.

Implemented by `adapters.nats` (the real thing) and `adapters.memory` (seeded loss, doubling, reordering).
Everything on a bus is a hint: it may be lost, late, doubled or reordered. Payloads are bytes; nothing here
knows what they mean. All callbacks are plain functions, called on the event loop of their bus; they must be
cheap and must not block. An exception in one is logged and goes no further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

MESSAGE_BYTES_MAX = 512 * 1024
"""Longest payload of any message, in bytes. What is longer goes by reference."""

MessageCallback = Callable[[bytes, str, str], None]
"""Called with (data, reply subject or "", subject)."""

ConfirmedCallback = Callable[[str, int, bool], None]
"""Called with (message id, stream sequence, duplicate): the work queue holds, or held, this message."""

FailedCallback = Callable[[str, Exception], None]
"""Called with (message id, error): the server refuses this message for good; it was given up."""

DeliveryCallback = Callable[["Delivery"], None]


class BusError(Exception):
    """Something that the bus could not do."""


class Disconnected(BusError):
    """There is no connection, or it ended before the answer: the outcome is unknown."""


class NoResponders(BusError):
    """Nobody listens on the subject of a request."""


class RequestTimeout(BusError):
    """No answer in time: the outcome is unknown, not failed."""


class PayloadTooLarge(BusError):
    """A payload over `MESSAGE_BYTES_MAX`, or over what the server takes: it can never be sent."""


class QueueError(BusError):
    """The server of the work queue refused a request; `code` is its error code."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code
        self.description = description


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the work queue holds."""

    created_at: int
    """Instant of the stream's creation, microseconds: another value means that it was wiped in between."""
    first_sequence: int
    last_sequence: int
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """How far the runners of one task queue are."""

    pending: int
    """Tasks that were not delivered yet."""
    unacknowledged: int
    """Tasks that are delivered and not acknowledged."""
    redelivered: int
    """Of these, how many were delivered more than once."""
    waiting: int
    """Pull requests that wait for tasks."""
    delivered_sequence: int
    """Highest stream sequence that was delivered."""
    ack_floor_sequence: int
    """Everything up to this stream sequence is acknowledged."""


class Handle(Protocol):
    """Something that was registered and can be taken back."""

    def unsubscribe(self) -> None:
        """Takes it back. The callback is not called again. Twice does nothing."""


class Bus(Protocol):
    """Messages between processes. Made by `adapters.nats.connection.connect` or `adapters.memory`."""

    @property
    def state(self) -> str:
        """ "connected", "reconnecting" or "closed"."""

    def publish(self, subject: str, data: bytes, reply: str = "") -> bool:
        """Sends without waiting. False: it was dropped (buffer full, or closed).

        While the connection is away messages are kept up to a bound of bytes and sent when it is back. Raises
        `PayloadTooLarge` for what can never be sent and ValueError for a malformed subject; nothing else.
        """

    def subscribe(self, subject: str, callback: MessageCallback, queue: str = "") -> Handle:
        """Calls back for each message; survives reconnections. `queue` names a group that shares them."""

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        """Sends and waits up to `timeout` seconds for the first answer.

        Raises `NoResponders`, `RequestTimeout`, `Disconnected`, `PayloadTooLarge`.
        """

    async def flush(self, timeout: float = 5.0) -> None:
        """Returns when the server has taken all that was published and subscribed before.

        Raises `Disconnected` or `RequestTimeout`.
        """

    def on_reconnected(self, callback: Callable[[], None]) -> Handle:
        """Calls back after each reconnection, once all subscriptions are made again."""

    async def close(self, timeout: float = 2.0) -> None:
        """Ends it, within about `timeout` seconds whatever state it is in. Twice does nothing."""


class TaskPublisher(Protocol):
    """The scheduler's end of the work queue."""

    def publish(self, queue: str, message_id: str, data: bytes) -> bool:
        """Puts a task on a task queue and repeats it, under the same id, until it is confirmed or withdrawn.

        False: too much is unconfirmed; nothing was taken, try later. A message id that is unconfirmed already
        is left as it is (True). Raises `PayloadTooLarge`, and ValueError for a malformed queue.
        """

    def withdraw(self, message_id: str) -> bool:
        """Stops repeating it. It may have been stored, or may be yet. False: it was not unconfirmed."""

    @property
    def unconfirmed(self) -> int:
        """How many messages are neither confirmed nor failed nor withdrawn."""

    async def stream_state(self) -> StreamState:
        """Reads the stream's state. Raises `BusError`; `QueueError` when there is no stream."""

    async def has_sequence(self, sequence: int) -> bool:
        """Whether the stream still holds this sequence; a work queue deletes what is acknowledged."""

    async def consumer_state(self, queue: str) -> ConsumerState:
        """Reads how far a task queue's runners are. Raises `BusError`."""

    async def close(self) -> None:
        """Stops repeating. What is unconfirmed stays unknown."""


class Delivery(Protocol):
    """One task in the hands of a runner. Settle it once: `ack`, `nak` or `term`.

    It takes a slot from its delivery until `release`, which settling includes.
    """

    data: bytes
    subject: str
    reply: str
    """Subject on which it is settled; `in_progress` may be sent there from another thread's bus."""

    @property
    def queue(self) -> str:
        """Name of the task queue it came from."""

    @property
    def sequence(self) -> int:
        """Stream sequence."""

    @property
    def delivered_count(self) -> int:
        """How often it was delivered, this time included: from 1."""

    @property
    def timestamp(self) -> int:
        """When the stream stored it, microseconds, by the server's clock."""

    @property
    def settled(self) -> bool:
        """Whether it was acknowledged, given back or terminated."""

    def begin(self) -> None:
        """Says that it is being run: a drain leaves it alone from now on."""

    def take(self, slots: int) -> None:
        """Says how many slots it takes in all, instead of one."""

    def release(self) -> None:
        """Frees its slots, for the puller to fill; twice does nothing."""

    def ack(self) -> None:
        """Done: never again. Fire and forget; if it is lost the task is redelivered."""

    def nak(self, delay: float = 0.0) -> None:
        """Gives it back, to be redelivered after `delay` seconds."""

    def in_progress(self) -> None:
        """Starts AckWait anew."""

    def term(self) -> None:
        """Never redeliver it."""


class TaskPuller(Protocol):
    """A runner's end of the work queue: asks for as many tasks as there are free slots."""

    async def start(self) -> None:
        """Makes sure of the topology and begins to pull. Retries by itself from then on."""

    @property
    def free_slots(self) -> int:
        """Slots that no delivery takes."""

    def resize(self, slots: int) -> None:
        """Changes the number of slots; a smaller one is reached as deliveries are released."""

    async def drain(self, timeout: float = 2.0) -> Sequence[Delivery]:
        """Stops pulling and gives back what was delivered but not begun. Twice does nothing more.

        Returns the deliveries that are begun and not settled. Bounded by about `timeout` seconds.
        """
