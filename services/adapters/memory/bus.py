"""`adapters.bus.Bus` in memory: as forgetful as the real one, and as polite about it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from services.adapters.bus import (
    MESSAGE_BYTES_MAX,
    Disconnected,
    Handle,
    MessageCallback,
    NoResponders,
    PayloadTooLarge,
    RequestTimeout,
)
from services.adapters.memory.hub import Interest, MemoryHub

logger = logging.getLogger(__name__)

UNSENT_BYTES_MAX = 8 << 20
"""Bytes that wait for the connection; what comes on top is dropped and reported."""
CONNECTED, RECONNECTING, CLOSED = "connected", "reconnecting", "closed"
_numbers = itertools.count(1)


class MemoryBus:
    """A bus on a hub."""

    def __init__(self, hub: MemoryHub, name: str = "") -> None:
        self.hub = hub
        self._name = name or f"bus-{next(_numbers)}"
        self._state = RECONNECTING if hub.stopped else CONNECTED
        self._interests: list[Interest] = []
        self._unsent: list[tuple[str, bytes, str]] = []
        self._unsent_bytes = 0
        self._reconnected: list[Callable[[], None]] = []
        self._disconnected: list[Callable[[], None]] = []
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._tokens = itertools.count(1)
        self._inbox = f"_INBOX.{self._name}.{next(_numbers)}"
        self._answer_interest = self.subscribe(f"{self._inbox}.*", self._on_answer)
        self.dropped = 0
        hub.watch(self._on_server)

    @property
    def state(self) -> str:
        """One of `CONNECTED`, `RECONNECTING`, `CLOSED`."""
        return self._state

    def publish(self, subject: str, data: bytes, reply: str = "") -> bool:
        """Sends without waiting; see `adapters.bus.Bus.publish`."""
        _check(subject, reply, len(data))
        if self._state == CONNECTED:
            self.hub.route(subject, data, reply)
            return True
        if self._state == RECONNECTING and self._unsent_bytes + len(data) <= UNSENT_BYTES_MAX:
            self._unsent.append((subject, data, reply))
            self._unsent_bytes += len(data)
            return True
        self.dropped += 1
        return False

    def subscribe(self, subject: str, callback: MessageCallback, queue: str = "") -> Handle:
        """Calls back for each message; survives reconnections."""
        _check(subject, queue, 0)
        interest = self.hub.subscribe(subject, queue, _guarded(callback))
        interest.deaf = self._state != CONNECTED
        self._interests.append(interest)
        return _Subscription(self._interests, interest)

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        """Sends and waits for the first answer; see `adapters.bus.Bus.request`."""
        _check(subject, "", len(data))
        if self._state != CONNECTED:
            raise Disconnected("no connection")
        token = str(next(self._tokens))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        try:
            if not self.hub.route(subject, data, f"{self._inbox}.{token}"):
                raise NoResponders("nobody answers")
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as error:
            raise RequestTimeout(f"no answer on {subject} in {timeout} s") from error
        finally:
            del self._answers[token]

    def _on_answer(self, data: bytes, reply: str, subject: str) -> None:
        answer = self._answers.get(subject[subject.rfind(".") + 1 :])
        if answer is not None and not answer.done():
            answer.set_result(data)

    async def flush(self, timeout: float = 5.0) -> None:
        """Returns after a turn of the loop; see `adapters.bus.Bus.flush`."""
        if self._state != CONNECTED:
            raise Disconnected("no connection")
        await asyncio.sleep(0)

    def on_reconnected(self, callback: Callable[[], None]) -> Handle:
        """Calls back after each reconnection, once all subscriptions are made again."""
        return _Listener(self._reconnected, callback)

    def on_disconnected(self, callback: Callable[[], None]) -> Handle:
        """Calls back whenever the connection is lost."""
        return _Listener(self._disconnected, callback)

    def _on_server(self, up: bool) -> None:
        if self._state == CLOSED:
            return
        self._state = CONNECTED if up else RECONNECTING
        for interest in self._interests:
            interest.deaf = not up
        if not up:
            self._fail("the connection was lost before the answer")
        else:
            unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
            for message in unsent:
                self.hub.route(*message)
        for callback in list(self._reconnected if up else self._disconnected):
            callback()

    def _fail(self, reason: str) -> None:
        for answer in list(self._answers.values()):
            if not answer.done():
                answer.set_exception(Disconnected(reason))

    async def close(self, timeout: float = 2.0) -> None:
        """Ends it. Twice does nothing."""
        if self._state == CLOSED:
            return
        await asyncio.sleep(0)
        self._state = CLOSED
        self._fail("the bus is closed")
        for interest in list(self._interests):
            interest.unsubscribe()
        self._interests.clear()


class _Subscription:
    """A bus's subscription, with a way out of both lists."""

    def __init__(self, interests: list[Interest], interest: Interest) -> None:
        self._interests = interests
        self._interest = interest

    def unsubscribe(self) -> None:
        """Takes it back. Twice does nothing."""
        self._interest.unsubscribe()
        if self._interest in self._interests:
            self._interests.remove(self._interest)


class _Listener:
    """A callback in a list, with a way out of it."""

    def __init__(self, callbacks: list[Callable[[], None]], callback: Callable[[], None]) -> None:
        self._callbacks = callbacks
        self._callback = callback
        callbacks.append(callback)

    def unsubscribe(self) -> None:
        """Takes it back. Twice does nothing."""
        if self._callback in self._callbacks:
            self._callbacks.remove(self._callback)


def _guarded(callback: MessageCallback) -> MessageCallback:
    def hear(data: bytes, reply: str, subject: str) -> None:
        try:
            callback(data, reply, subject)
        except Exception:
            logger.exception("callback failed")

    return hear


def _check(subject: str, reply: str, size: int) -> None:
    if size > MESSAGE_BYTES_MAX:
        raise PayloadTooLarge(f"{size} bytes to {subject}; at most {MESSAGE_BYTES_MAX}")
    if not subject or not (subject + reply).isprintable() or " " in subject or " " in reply:
        raise ValueError(f"malformed subject {subject!r} or reply {reply!r}")
