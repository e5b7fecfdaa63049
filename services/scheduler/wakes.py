"""When executions in memory must be looked at again: a heap of (instant, execution), stale entries skipped."""

from __future__ import annotations

from heapq import heappop, heappush

from services.core.machine.timers import next_wake
from services.scheduler.live import Live


class Wakes:
    """Timers of the executions in memory."""

    def __init__(self, live: dict[bytes, Live]) -> None:
        self._live = live
        self._heap: list[tuple[int, bytes]] = []

    def note(self, live: Live) -> None:
        """An execution has changed: remember when it wakes next."""
        at = next_wake(live.state) or 0
        if at != live.wake_at:
            live.wake_at = at
            if at:
                heappush(self._heap, (at, live.id))

    def due(self, now: int) -> list[bytes]:
        """Executions that are due; each is named once until it has been noted again."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, execution_id = heappop(self._heap)
            live = self._live.get(execution_id)
            if live is not None and live.wake_at == at:
                live.wake_at = 0
                found.append(execution_id)
        return found

    @property
    def size(self) -> int:
        """Executions in memory that will be looked at again."""
        return sum(1 for live in self._live.values() if live.wake_at)

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
