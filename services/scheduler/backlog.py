"""What is ready beyond the dispatch window: weighted by priority, fair among organizations.

While all wait, priorities are served 8 : 4 : 2 : 1, so that low is served too; within one priority the
organizations take turns. Taking and putting cost the same whatever waits.

Nothing changes these values once they are made. They are not frozen, because a frozen dataclass costs three times as
much to make and these are made for every event.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from services.scheduler.live import Live

WEIGHTS = {"CRITICAL": 8, "HIGH": 4, "NORMAL": 2, "LOW": 1}


@dataclass(slots=True)
class Waiting:
    """One attempt that waits for room."""

    live: Live
    node: int
    attempt: int
    since: int


class Backlog:
    """Attempts of one task queue that wait for room in its window."""

    __slots__ = ("_credits", "_levels", "size")

    def __init__(self) -> None:
        self._levels: dict[str, OrderedDict[str, deque[Waiting]]] = {name: OrderedDict() for name in WEIGHTS}
        self._credits = dict.fromkeys(WEIGHTS, 0)
        self.size = 0

    def put(self, priority: str, organization_id: str, waiting: Waiting) -> None:
        """Let an attempt wait."""
        level = self._levels[priority]
        if organization_id not in level:
            level[organization_id] = deque()
        level[organization_id].append(waiting)
        self.size += 1

    def take(self) -> Waiting | None:
        """The attempt whose turn it is, or None when none waits."""
        name = self._next_priority()
        if name is None:
            return None
        level = self._levels[name]
        organization_id, queue = level.popitem(last=False)
        waiting = queue.popleft()
        if queue:
            level[organization_id] = queue
        self.size -= 1
        return waiting

    def _next_priority(self) -> str | None:
        """Smooth weighted round robin over the priorities that have something waiting."""
        waiting = [name for name, level in self._levels.items() if level]
        if not waiting:
            return None
        if len(waiting) == 1:
            return waiting[0]
        total = 0
        for name in waiting:
            self._credits[name] += WEIGHTS[name]
            total += WEIGHTS[name]
        best = max(waiting, key=self._credits.__getitem__)
        self._credits[best] -= total
        return best

    def clear(self) -> None:
        """Forget everything."""
        for level in self._levels.values():
            level.clear()
        self.size = 0
