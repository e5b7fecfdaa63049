"""The subscriptions of a bus: a table that outlives the connections it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable

from services.adapters.nats.client import NatsClient, RawCallback

logger = logging.getLogger(__name__)

RETIRED_SECONDS = 10.0
"""How long messages that were under way to a retired subscription are still handed on."""


class Subscriptions:
    """All subscriptions of one bus, by the number that stands for them on the wire."""

    def __init__(self) -> None:
        self.callbacks: dict[int, RawCallback] = {}
        self._live: dict[int, Subscription] = {}
        self._numbers = itertools.count(1)
        self.client: NatsClient | None = None

    def add(self, subject: str, queue: str, callback: RawCallback) -> Subscription:
        """A new subscription, told to the server at once or with the next connection."""
        subscription = Subscription(self, next(self._numbers), subject, queue)
        self.callbacks[subscription.number] = callback
        self._live[subscription.number] = subscription
        if self.client is not None:
            self.client.send(subscription.command())
        return subscription

    def tell(self, client: NatsClient) -> None:
        """Tells a new connection about all of them."""
        self.client = client
        for subscription in self._live.values():
            client.send(subscription.command())

    def withdraw(self, number: int) -> None:
        """Tells the server that nobody listens any more."""
        if self._live.pop(number, None) is not None and self.client is not None:
            self.client.send(b"UNSUB %d\r\n" % number)

    def clear(self) -> None:
        """Forgets all of them."""
        self.client = None
        self.callbacks.clear()
        self._live.clear()


class Subscription:
    """A subscription that survives reconnections."""

    __slots__ = ("_queue", "_subject", "_table", "number")

    def __init__(self, table: Subscriptions, number: int, subject: str, queue: str) -> None:
        self._table = table
        self.number = number
        self._subject = subject
        self._queue = queue

    def unsubscribe(self) -> None:
        """Takes it back; messages under way are dropped. Twice does nothing."""
        self._table.callbacks.pop(self.number, None)
        self._table.withdraw(self.number)

    def retire(self) -> None:
        """Takes it back; messages under way still come, for a while."""
        loop = asyncio.get_running_loop()
        loop.call_later(RETIRED_SECONDS, self._table.callbacks.pop, self.number, None)
        self._table.withdraw(self.number)

    def command(self) -> bytes:
        """How the server is told."""
        return f"SUB {self._subject} {self._queue} {self.number}\r\n".encode()


class Listeners:
    """Callbacks without arguments."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def add(self, callback: Callable[[], None]) -> Listener:
        """Adds one, and returns the way to take it back."""
        self._callbacks.append(callback)
        return Listener(self._callbacks, callback)

    def call(self) -> None:
        """Calls all of them. An exception is logged and goes no further."""
        for callback in list(self._callbacks):
            try:
                callback()
            except Exception:
                logger.exception("listener failed")


class Listener:
    """One callback of `Listeners`."""

    def __init__(self, callbacks: list[Callable[[], None]], callback: Callable[[], None]) -> None:
        self._callbacks = callbacks
        self._callback = callback

    def unsubscribe(self) -> None:
        """Takes it back. Twice does nothing."""
        with contextlib.suppress(ValueError):
            self._callbacks.remove(self._callback)
