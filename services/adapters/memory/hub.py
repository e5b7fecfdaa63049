"""The network in memory: carries messages between buses, and loses, doubles and delays them by a seed.

Everything happens on the running event loop: without faults in order and at the loop's next turn, with them after
a drawn delay. One seed and one order of calls give one course of events.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable
from dataclasses import dataclass

from services.adapters.bus import MessageCallback


@dataclass(slots=True)
class Faults:
    """How bad the network is: chances from 0 to 1, drawn for each message on each of its ways."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_seconds_max: float = 0.05
    """Delays are drawn evenly up to this; late messages are overtaken by others."""


@functools.lru_cache(maxsize=65_536)
def matches(pattern: str, subject: str) -> bool:
    """Whether a subject falls under a pattern with `*` (one token) and `>` (all that follow)."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


class Interest:
    """One subscription."""

    __slots__ = ("_hub", "callback", "deaf", "pattern", "queue")

    def __init__(self, hub: MemoryHub, pattern: str, queue: str, callback: MessageCallback) -> None:
        self._hub = hub
        self.pattern = pattern
        self.queue = queue
        self.callback = callback
        self.deaf = False
        """True while its bus has no connection."""

    def unsubscribe(self) -> None:
        """Takes it back; messages under way are dropped. Twice does nothing."""
        self.deaf = True
        self._hub.forget(self)

    def hear(self, data: bytes, reply: str, subject: str) -> None:
        """Calls back, unless it was taken back meanwhile."""
        if not self.deaf:
            self.callback(data, reply, subject)


class MemoryHub:
    """What all buses of a test or a simulation hang on."""

    def __init__(self, seed: int = 0, faults: Faults | None = None) -> None:
        self.dice = random.Random(seed)
        self.faults = faults or Faults()
        self.stopped = False
        """True while the server is down: nothing passes, and buses have no connection."""
        self.lost = 0
        self.doubled = 0
        self._interests: list[Interest] = []
        self._listeners: list[Callable[[bool], None]] = []

    def watch(self, listener: Callable[[bool], None]) -> None:
        """Calls back with True when the server is back and with False when it went down."""
        self._listeners.append(listener)

    def stop(self) -> None:
        """The server goes down. What it was carrying is lost."""
        self.stopped = True
        for listener in list(self._listeners):
            listener(False)

    def start(self) -> None:
        """The server is back."""
        self.stopped = False
        for listener in list(self._listeners):
            listener(True)

    def subscribe(self, pattern: str, queue: str, callback: MessageCallback) -> Interest:
        """Registers a subscription."""
        interest = Interest(self, pattern, queue, callback)
        self._interests.append(interest)
        return interest

    def forget(self, interest: Interest) -> None:
        """Drops a subscription."""
        if interest in self._interests:
            self._interests.remove(interest)

    def route(self, subject: str, data: bytes, reply: str) -> bool:
        """Carries a message to everybody interested, and to one of each queue group. False: nobody is."""
        groups: dict[str, list[Interest]] = {}
        heard = False
        for interest in self._interests:
            if interest.deaf or not matches(interest.pattern, subject):
                continue
            heard = True
            if interest.queue:
                groups.setdefault(interest.queue, []).append(interest)
            else:
                self.carry(functools.partial(interest.hear, data, reply, subject))
        for members in groups.values():
            self.carry(functools.partial(self.dice.choice(members).hear, data, reply, subject))
        return heard

    def carry(self, arrive: Callable[[], None], lost: Callable[[], None] | None = None) -> None:
        """Lets something arrive: once, not at all (then `lost` is called at once), or twice."""
        faults, dice = self.faults, self.dice
        if self.stopped or dice.random() < faults.lost:
            self.lost += 1
            if lost is not None:
                lost()
            return
        times = 1
        if dice.random() < faults.doubled:
            self.doubled += 1
            times = 2
        loop = asyncio.get_running_loop()
        for _ in range(times):
            if dice.random() < faults.late:
                loop.call_later(dice.uniform(0, faults.late_seconds_max), arrive)
            else:
                loop.call_soon(arrive)
