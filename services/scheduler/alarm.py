"""The alarm: wakes executions in memory at their instant, without looking at a clock in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.adapters.clock import Clock
from services.core.inputs import TimersDue
from services.core.units import SECOND
from services.scheduler.items import Item
from services.scheduler.wakes import Wakes

# The clock follows the database's: look again at least this often, so that a correction is noticed.
LOOK_SECONDS_MAX = 1.0


class Alarm:
    """One timer of the event loop, set to the earliest wake. A duty looks as well, should it ever fail to ring."""

    def __init__(self, clock: Clock, wakes: Wakes, put: Callable[[Item], None]) -> None:
        self._clock = clock
        self._wakes = wakes
        self._put = put
        self._handle: asyncio.TimerHandle | None = None
        wakes.earlier = self.set

    def set(self, at: int) -> None:
        """Ring at an instant that comes before the one it is set to."""
        if self._handle is not None:
            self._handle.cancel()
        seconds = min(max((at - self._clock.now()) / SECOND, 0.0), LOOK_SECONDS_MAX)
        self._handle = asyncio.get_running_loop().call_later(seconds, self.ring)

    def ring(self) -> int:
        """Queue what is due and set the alarm anew; returns how many were due."""
        due = self._wakes.due(self._clock.now())
        for execution_id in due:
            self._put(Item(execution_id, TimersDue()))
        self._handle = None
        at = self._wakes.next()
        if at is not None:
            self.set(at)
        return len(due)
