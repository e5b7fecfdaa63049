"""The pulls of one task queue: what was asked for, what came, what ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import dataclass
from typing import Protocol

import orjson

from services.adapters.nats import jetstream
from services.adapters.nats.connection import NatsBus
from services.adapters.nats.requests import header, new_inbox, status_of
from services.adapters.nats.topology import STREAM, consumer_name

logger = logging.getLogger(__name__)

NO_MESSAGES = 404
TIMEOUT = 408
HEARTBEAT = 100

GRACE_SECONDS = 2.0
"""A pull's end is believed without word of it so long after its expiry."""


@dataclass(frozen=True, slots=True)
class PullKind:
    """How a pull waits."""

    expires_seconds: float
    heartbeat_seconds: float


LONG = PullKind(30.0, 5.0)
SHORT = PullKind(0.25, 0.0)
SCOUT = PullKind(0.0, 0.0)
"""Does not wait at all."""


class Taker(Protocol):
    """Who gets the tasks of a lane."""

    def deliver(self, data: bytes, subject: str, reply: str) -> None:
        """A task came."""

    def assign_soon(self) -> None:
        """There may be something to ask for."""

    def repair(self) -> None:
        """The stream or the consumer is missing."""


@dataclass(slots=True)
class _Pull:
    batch: int
    ends_at: float
    kind: PullKind


class _Inbox:
    """One subscription for what pulls bring. A lane that starts anew gets another one: tasks that come to the old
    one are handed on, but no longer counted against what the lane has asked for."""

    __slots__ = ("_handle", "_lane", "live", "prefix")

    def __init__(self, bus: NatsBus, lane: Lane) -> None:
        self._lane = lane
        self.live = True
        self.prefix = new_inbox()
        self._handle = bus.subscribe_raw(f"{self.prefix}.*", self._on_message)

    def _on_message(self, data: bytes, reply: str, subject: str, headers: bytes | None) -> None:
        status = 0 if headers is None else status_of(headers)
        if status == 0:
            self._lane.on_task(data, subject, reply, self.live)
        elif self.live and headers is not None:
            self._lane.on_status(status, subject[len(self.prefix) + 1 :], headers)

    def retire(self) -> None:
        """Stops listening; what is under way still comes."""
        self.live = False
        self._handle.retire()


class Lane:
    """Pulls from the consumer of one task queue."""

    def __init__(self, bus: NatsBus, queue: str, taker: Taker) -> None:
        self._bus = bus
        self._taker = taker
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._subject = f"{jetstream.API}CONSUMER.MSG.NEXT.{STREAM}.{consumer_name(queue)}"
        self._tokens = itertools.count(1)
        self._pulls: dict[str, _Pull] = {}
        self._inbox: _Inbox | None = None
        self._heard_at = 0.0
        self.asked = 0
        """Tasks that are asked for and have not come."""
        self.hot = False
        """Whether the last pulls brought tasks."""

    def pull(self, batch: int, kind: PullKind) -> None:
        """Asks for `batch` tasks. Does nothing without a connection."""
        inbox = self._inbox
        if inbox is None:
            return
        request: dict[str, int | bool] = {"batch": batch}
        if kind.expires_seconds:
            request["expires"] = int(kind.expires_seconds * jetstream.SECOND_NS)
        else:
            request["no_wait"] = True
        if kind.heartbeat_seconds:
            request["idle_heartbeat"] = int(kind.heartbeat_seconds * jetstream.SECOND_NS)
        token = str(next(self._tokens))
        if not self._bus.publish_now(self._subject, orjson.dumps(request), f"{inbox.prefix}.{token}"):
            return
        now = self._loop.time()
        if not self.asked:
            self._pulls.clear()
            self._heard_at = now
        self._pulls[token] = _Pull(batch, now + kind.expires_seconds, kind)
        self.asked += batch

    def restart(self) -> None:
        """Forgets all pulls and listens on another inbox, so that none of them is an orphan."""
        self.close()
        self._inbox = _Inbox(self._bus, self)

    def close(self) -> None:
        """Stops asking; the server forgets the pulls, which nobody hears any more."""
        if self._inbox is not None:
            self._inbox.retire()
        self._inbox = None
        self._pulls.clear()
        self.asked = 0

    def on_task(self, data: bytes, subject: str, reply: str, counted: bool) -> None:
        """A task came; `counted`: it was asked for by a pull that is not forgotten."""
        if counted and self.asked:
            self.asked -= 1
        self._heard_at = self._loop.time()
        if not self.hot:
            self.hot = True
            self._taker.assign_soon()
        self._taker.deliver(data, subject, reply)

    def on_status(self, status: int, token: str, headers: bytes) -> None:
        """The server says something about a pull."""
        self._heard_at = self._loop.time()
        if status == HEARTBEAT:
            return
        pull = self._pulls.pop(token, None)
        if pull is not None:
            remaining = int(header(headers, b"Nats-Pending-Messages") or pull.batch)
            self.asked = max(self.asked - remaining, 0)
            if remaining == pull.batch:
                self.hot = False
        if status in (NO_MESSAGES, TIMEOUT):
            self._taker.assign_soon()
            return
        logger.warning(
            "nats: pull from %s refused: %s", self._queue, headers[9:80].split(b"\r\n")[0].decode()
        )
        self._taker.repair()

    def look_after(self) -> None:
        """Forgets pulls that must have ended without word, and restarts when heartbeats are missing."""
        now = self._loop.time()
        ended = [token for token, pull in self._pulls.items() if pull.ends_at + GRACE_SECONDS < now]
        for token in ended:
            del self._pulls[token]
        self.asked = min(self.asked, sum(pull.batch for pull in self._pulls.values()))
        silent = now - self._heard_at
        if self.asked and any(2 * pull.kind.heartbeat_seconds + 1 < silent for pull in self._beating()):
            logger.warning("nats: no heartbeat from %s for %.1f s", self._queue, silent)
            self.restart()

    def _beating(self) -> list[_Pull]:
        return [pull for pull in self._pulls.values() if pull.kind.heartbeat_seconds]
