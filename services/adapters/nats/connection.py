"""The bus: a connection to NATS that comes back by itself, with its subscriptions.

nats-py's own reconnecting is not used: it gives up, closes for good on some errors, and a client with unsent data
waits for a silent partition to end. Here a `NatsClient` is one connection; when it ends, or when two pings in a
row get no answer, it is abandoned and a new one is made, after 0.1 to 0.5 s, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from services.adapters.bus import (
    MESSAGE_BYTES_MAX,
    Disconnected,
    Handle,
    MessageCallback,
    PayloadTooLarge,
    RequestTimeout,
)
from services.adapters.nats.client import NatsClient, RawCallback
from services.adapters.nats.requests import Requests
from services.adapters.nats.subscriptions import Listeners, Subscription, Subscriptions

logger = logging.getLogger(__name__)

PING_INTERVAL_SECONDS = 2.0
PONG_TIMEOUT_SECONDS = 3.0
MISSED_PONGS_MAX = 2
RECONNECT_WAIT_SECONDS = (0.1, 0.5)
UNSENT_BYTES_MAX = 8 << 20
"""Bytes that wait to be written, connected or not; what comes on top is dropped and reported."""

CONNECTED, RECONNECTING, CLOSED = "connected", "reconnecting", "closed"


class NatsBus:
    """`adapters.bus.Bus` over NATS. Belongs to one event loop; made by `connect`."""

    def __init__(self, url: str, credentials: str | None, name: str) -> None:
        self._servers = [server.strip() for server in url.split(",") if server.strip()]
        self._credentials = credentials
        self._name = name
        self._client: NatsClient | None = None
        self._closed = False
        self._subscriptions = Subscriptions()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._reconnected = Listeners()
        self._disconnected = Listeners()
        self._dice = random.Random()
        self._requests = Requests()
        self._inbox: Subscription | None = None
        self._payload_max = MESSAGE_BYTES_MAX
        self.dropped = 0

    # Connection

    @property
    def state(self) -> str:
        """ "connected", "reconnecting" or "closed"."""
        if self._closed:
            return CLOSED
        return RECONNECTING if self._client is None else CONNECTED

    async def open(self, timeout: float) -> None:
        """Makes the first connection, trying for `timeout` seconds. Raises `Disconnected` with the reason."""
        deadline = asyncio.get_running_loop().time() + timeout
        while not await self._attempt():
            if asyncio.get_running_loop().time() > deadline:
                self._closed = True
                raise Disconnected(f"no connection to {', '.join(map(_without_password, self._servers))}")
            await asyncio.sleep(self._dice.uniform(*RECONNECT_WAIT_SECONDS))
        self._keeper = asyncio.create_task(self._keep())

    async def _attempt(self) -> bool:
        client = NatsClient(self._subscriptions.callbacks, self._on_lost)
        try:
            await client.open(self._servers, self._credentials, self._name)
        except Exception as error:  # whatever it is, the next attempt may succeed
            client.abandon()
            logger.warning("nats: cannot connect: %r", client.last_refusal or error)
            return False
        except BaseException:
            client.abandon()
            raise
        if client.is_closed:  # lost again before we looked
            client.abandon()
            return False
        self._lost.clear()
        self._client = client
        self._payload_max = min(MESSAGE_BYTES_MAX, client.max_payload)
        self._subscriptions.tell(client)
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        for command in unsent:
            client.send(command)
        return True

    def _on_lost(self, client: NatsClient) -> None:
        if client is self._client:
            self._lost.set()

    async def _keep(self) -> None:
        """Watches the connection, and makes a new one whenever it is gone."""
        while True:
            await self._until_lost()
            self._abandon()
            logger.warning("nats: connection lost")
            self._requests.fail("the connection was lost before the answer")
            self._disconnected.call()
            while not await self._attempt():  # noqa: ASYNC110  there is nothing to wait for but time
                await asyncio.sleep(self._dice.uniform(*RECONNECT_WAIT_SECONDS))
            logger.info("nats: connected again")
            self._reconnected.call()

    async def _until_lost(self) -> None:
        missed = 0
        while missed < MISSED_PONGS_MAX:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), PING_INTERVAL_SECONDS)
                return
            try:
                await self.flush(PONG_TIMEOUT_SECONDS)
                missed = 0
            except Exception:
                missed += 1
            if self._lost.is_set():
                return

    async def close(self, timeout: float = 2.0) -> None:
        """Flushes if it can and ends, within about `timeout` seconds. Twice does nothing."""
        if self._closed:
            return
        with contextlib.suppress(Exception):
            await self.flush(timeout)
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self._abandon()
        self._requests.fail("the bus is closed")
        self._subscriptions.clear()

    def _abandon(self) -> None:
        client, self._client, self._subscriptions.client = self._client, None, None
        if client is not None:
            client.abandon()

    def on_reconnected(self, callback: Callable[[], None]) -> Handle:
        """Calls back after each reconnection, once all subscriptions are made again."""
        return self._reconnected.add(callback)

    def on_disconnected(self, callback: Callable[[], None]) -> Handle:
        """Calls back whenever the connection is lost."""
        return self._disconnected.add(callback)

    # Sending

    def publish(self, subject: str, data: bytes, reply: str = "") -> bool:
        """Sends without waiting; see `adapters.bus.Bus.publish`."""
        self._check(subject, reply, len(data))
        return self._send(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data))

    def publish_now(self, subject: str, data: bytes, reply: str, headers: bytes = b"") -> bool:
        """Sends if there is a connection, else drops it (False): for what its sender repeats by itself.

        `headers` is a block of `Name: value\\r\\n` lines. The caller answers for its form.
        """
        self._check(subject, reply, len(data))
        if self._client is None:
            return False
        if not headers:
            return self._send(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data))
        size = len(headers) + 12
        return self._send(
            b"HPUB %b %b %d %d\r\nNATS/1.0\r\n%b\r\n%b\r\n"
            % (subject.encode(), reply.encode(), size, size + len(data), headers, data)
        )

    def _check(self, subject: str, reply: str, size: int) -> None:
        if size > self._payload_max:
            raise PayloadTooLarge(f"{size} bytes to {subject}; at most {self._payload_max}")
        if not subject or not (subject + reply).isprintable() or " " in subject or " " in reply:
            raise ValueError(f"malformed subject {subject!r} or reply {reply!r}")

    def _send(self, command: bytes) -> bool:
        client = self._client
        if client is not None:
            if client.pending_data_size + len(command) <= UNSENT_BYTES_MAX:
                client.send(command)
                return True
        elif not self._closed and self._unsent_bytes + len(command) <= UNSENT_BYTES_MAX:
            self._unsent.append(command)
            self._unsent_bytes += len(command)
            return True
        self.dropped += 1
        return False

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        """Sends and waits for the first answer; see `adapters.bus.Bus.request`."""
        if self._inbox is None:
            self._inbox = self.subscribe_raw(f"{self._requests.inbox}.*", self._requests.on_answer)
        token, reply, answer = self._requests.begin()
        try:
            if not self.publish_now(subject, data, reply):
                raise Disconnected("no connection")
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as error:
            raise RequestTimeout(f"no answer on {subject} in {timeout} s") from error
        finally:
            self._requests.end(token)

    async def flush(self, timeout: float = 5.0) -> None:
        """Returns when the server has taken all that was sent before; see `adapters.bus.Bus.flush`."""
        client = self._client
        if client is None:
            raise Disconnected("no connection")
        try:
            async with asyncio.timeout(timeout):
                answered = await client.pong()
        except TimeoutError as error:
            raise RequestTimeout(f"the server did not answer in {timeout} s") from error
        if not answered:
            raise Disconnected("the connection was lost before the answer")

    # Subscriptions

    def subscribe(self, subject: str, callback: MessageCallback, queue: str = "") -> Handle:
        """Calls back for each message; survives reconnections."""
        return self.subscribe_raw(subject, lambda data, reply, to, _: callback(data, reply, to), queue)

    def subscribe_raw(self, subject: str, callback: RawCallback, queue: str = "") -> Subscription:
        """Like `subscribe`, with the raw header block as the callback's fourth argument."""
        self._check(subject, queue, 0)
        return self._subscriptions.add(subject, queue, callback)


async def connect(
    url: str,
    credentials: str | None = None,
    name: str = "",
    on_reconnected: Callable[[], None] | None = None,
    on_disconnected: Callable[[], None] | None = None,
    timeout: float = 10.0,
) -> NatsBus:
    """Connects to the servers of `url` (comma-separated; user and password may be in it).

    `credentials` is the path of a credentials file. Tries for `timeout` seconds, then raises `Disconnected`;
    afterwards the bus reconnects for ever, by itself.
    """
    bus = NatsBus(url, credentials, name)
    if on_reconnected is not None:
        bus.on_reconnected(on_reconnected)
    if on_disconnected is not None:
        bus.on_disconnected(on_disconnected)
    await bus.open(timeout)
    return bus


def _without_password(server: str) -> str:
    return server.rpartition("@")[2]
