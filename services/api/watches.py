"""Who watches which execution. Hints wake; a sweep compares with rows, so that a lost hint costs a second."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from services.adapters.bus import Bus, Handle
from services.adapters.nats import topology
from services.adapters.postgres.feed import CommitFeed
from services.api.metrics import ApiMetrics
from services.core.ids import uuid_text

IDS_MAX = 1_000


class Subscription:
    """One watcher's ear. It holds no messages: rows are read when the watcher has room for them."""

    __slots__ = ("_woken", "logs", "sequence")

    def __init__(self, logs: bool) -> None:
        self._woken = asyncio.Event()
        self.logs = logs
        self.sequence = 0

    def wake(self) -> None:
        """There may be something to read."""
        self._woken.set()

    def clear(self) -> None:
        """What comes from now on wakes again; call before reading."""
        self._woken.clear()

    async def wait(self, seconds: float) -> bool:
        """True when woken, False after `seconds` of silence."""
        if self._woken.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True


class Watches:
    """All watchers of this process."""

    def __init__(self, bus: Bus, feed: CommitFeed, metrics: ApiMetrics) -> None:
        self._bus = bus
        self._feed = feed
        self._metrics = metrics
        self._watched: dict[bytes, set[Subscription]] = {}
        self._log_handles: dict[bytes, tuple[Handle, int]] = {}

    def __len__(self) -> int:
        return len(self._watched)

    @contextmanager
    def subscribe(self, execution_id: bytes, *, logs: bool) -> Iterator[Subscription]:
        """Hear of an execution while the block runs."""
        subscription = Subscription(logs)
        self._watched.setdefault(execution_id, set()).add(subscription)
        if logs:
            self._hear_logs(execution_id)
        try:
            yield subscription
        finally:
            others = self._watched[execution_id]
            others.discard(subscription)
            if not others:
                del self._watched[execution_id]
            if logs:
                self._leave_logs(execution_id)

    def hint(self, touched: Mapping[bytes, int]) -> None:
        """A commit has touched these."""
        if len(touched) <= len(self._watched):
            hit = [execution_id for execution_id in touched if execution_id in self._watched]
        else:
            hit = [execution_id for execution_id in self._watched if execution_id in touched]
        for execution_id in hit:
            for subscription in self._watched[execution_id]:
                subscription.wake()

    async def sweep(self) -> Mapping[str, int]:
        """Ask once how far all watched executions are and wake who is behind, and all who follow logs."""
        ids = list(self._watched)
        woken = 0
        for first in range(0, len(ids), IDS_MAX):
            heads = await self._feed.last_sequences(ids[first : first + IDS_MAX])
            for execution_id, sequence in heads.items():
                for subscription in self._watched.get(execution_id, ()):
                    if subscription.sequence < sequence:
                        subscription.wake()
                        woken += 1
        for subscriptions in self._watched.values():
            for subscription in subscriptions:
                if subscription.logs:
                    subscription.wake()
        if woken:
            self._metrics.swept.of("change").inc(woken)
        return {"watched": len(ids), "woken": woken}

    def _hear_logs(self, execution_id: bytes) -> None:
        known = self._log_handles.get(execution_id)
        if known is not None:
            self._log_handles[execution_id] = (known[0], known[1] + 1)
            return

        def heard(data: bytes, reply: str, subject: str) -> None:
            for subscription in self._watched.get(execution_id, ()):
                if subscription.logs:
                    subscription.wake()

        handle = self._bus.subscribe(topology.logs_subject(uuid_text(execution_id)), heard)
        self._log_handles[execution_id] = (handle, 1)

    def _leave_logs(self, execution_id: bytes) -> None:
        handle, count = self._log_handles.pop(execution_id)
        if count > 1:
            self._log_handles[execution_id] = (handle, count - 1)
        else:
            handle.unsubscribe()
