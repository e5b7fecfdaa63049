"""The only reader of clocks. `now` is database time: this machine's clock corrected by an observed offset."""

from __future__ import annotations

import time
from typing import Protocol

# An observation older than this no longer holds back a worse one: clocks drift.
OBSERVATION_LIFETIME_S = 60.0


class Clock(Protocol):
    """What everything that needs time is given; tests bring their own."""

    def now(self) -> int:
        """Microseconds since the Unix epoch, UTC, in database time."""

    def monotonic(self) -> float:
        """Seconds of a clock that never jumps; only differences mean anything."""


# Counts on while the machine sleeps, where there is such a clock; never steps.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clock as it was at the start, corrected by the offset that replies of the database show.

    Time goes on by a steady clock from there: somebody who sets the machine's clock must not end every execution.
    """

    def __init__(self) -> None:
        self._began_us = (time.time_ns() - time.clock_gettime_ns(_STEADY)) // 1000
        self._offset_us = 0
        self._round_trip_s = float("inf")
        self._observed_at = float("-inf")

    @property
    def offset_us(self) -> int:
        """Microseconds that the database's clock is ahead of this machine's."""
        return self._offset_us

    def now(self) -> int:
        """Microseconds since the Unix epoch, UTC, in database time."""
        return time.clock_gettime_ns(_STEADY) // 1000 + self._began_us + self._offset_us

    def monotonic(self) -> float:
        """Seconds of a clock that never jumps."""
        return time.monotonic()

    def observe(self, database_at: int, asked_at: float) -> None:
        """Learn from a database reading `database_at` (microseconds) asked for at `asked_at` (monotonic).

        The reading is taken to be of the middle of the round trip; the shortest recent round trip wins, since
        it bounds the error best.
        """
        replied_at = time.monotonic()
        round_trip_s = max(replied_at - asked_at, 0.0)
        fresh = replied_at - self._observed_at < OBSERVATION_LIFETIME_S
        if fresh and round_trip_s > self._round_trip_s:
            return
        middle = self.now() - self._offset_us - int(round_trip_s * 500_000)
        self._offset_us = database_at - middle
        self._round_trip_s = round_trip_s
        self._observed_at = replied_at


class FixedClock:
    """A clock that stands until it is moved; for tests and simulations."""

    def __init__(self, at: int = 1_700_000_000_000_000) -> None:
        self.at = at

    def now(self) -> int:
        """The instant it was set to."""
        return self.at

    def monotonic(self) -> float:
        """The same instant in seconds."""
        return self.at / 1_000_000

    def advance(self, duration_us: int) -> None:
        """Move on by microseconds."""
        self.at += duration_us
