"""When executions in memory must be looked at again: a heap of (instant, execution), stale entries skipped."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from services.core.machine.timers import next_wake
from services.scheduler.live import Live

# Stale entries (of executions that ended long before their timeout, mostly) are thrown out beyond this many.
STALE_MAX = 1000


class Wakes:
    """Timers of the executions in memory. `earlier` is told of an instant that comes before all others."""

    def __init__(self, live: dict[bytes, Live]) -> None:
        self._live = live
        self._heap: list[tuple[int, bytes]] = []
        self.earlier: Callable[[int], None] | None = None

    def note(self, live: Live) -> None:
        """An execution has changed: remember when it wakes next."""
        at = next_wake(live.state) or 0
        if at != live.wake_at:
            live.wake_at = at
            if at:
                heappush(self._heap, (at, live.id))
                if len(self._heap) > 2 * len(self._live) + STALE_MAX:
                    self._compact()
                if self.earlier is not None and self._heap[0][0] == at:
                    self.earlier(at)

    def due(self, now: int) -> list[bytes]:
        """Executions that are due; each is named once until it has been noted again."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            entry = heappop(self._heap)
            if self._fits(entry):
                self._live[entry[1]].wake_at = 0
                found.append(entry[1])
        return found

    def next(self) -> int | None:
        """Instant of the earliest wake, or None."""
        while self._heap:
            if self._fits(self._heap[0]):
                return self._heap[0][0]
            heappop(self._heap)
        return None

    def _fits(self, entry: tuple[int, bytes]) -> bool:
        live = self._live.get(entry[1])
        return live is not None and live.wake_at == entry[0]

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._fits(entry)]
        heapify(self._heap)

    @property
    def size(self) -> int:
        """Executions in memory that will be looked at again."""
        return sum(1 for live in self._live.values() if live.wake_at)

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
