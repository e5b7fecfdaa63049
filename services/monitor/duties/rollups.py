"""Rolls commits up: reads what follows the cursors, counts it, and moves the cursors in the same transaction.

Hints on NATS only say when to look: rows are the feed, so a hint that is lost, late or doubled changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import orjson

from services.adapters.clock import Clock
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.rollups import RollupStore
from services.adapters.wire.feed import CommitFacts, decode_facts
from services.core.records import COMMIT_MADE, CommitRow
from services.core.rollups import CursorMove
from services.monitor.folding import fold
from services.monitor.metrics import MonitorMetrics
from services.monitor.sketches import merge

# Commits of a session that are rolled up in one transaction.
COMMITS_MAX = 200
VERSIONS_KEPT_MAX = 1000


class Rollups:
    """The monitor's reader of the feed."""

    def __init__(
        self, clock: Clock, store: RollupStore, versions: ExecutionStore, metrics: MonitorMetrics
    ) -> None:
        self._clock = clock
        self._store = store
        self._versions = versions
        self._metrics = metrics
        self._names: OrderedDict[bytes, list[tuple[str, str]]] = OrderedDict()
        self.cursors: dict[int, tuple[int, int]] = {}
        self.applied = 0
        self.lag_us = 0

    async def run_once(self) -> dict[str, int]:
        """Roll up until nothing is left, a bounded number of commits at a time."""
        total = 0
        while True:
            rows, moves = await self._store.next_commits(COMMITS_MAX)
            if not moves:
                return {"commits": total}
            total += await self._apply(rows, moves)

    async def _apply(self, rows: Sequence[CommitRow], moves: Sequence[CursorMove]) -> int:
        commits = [decode_facts(row.digest) for row in rows if row.kind == COMMIT_MADE and row.digest]
        await self._learn(commits)
        executions, nodes = fold(commits, self._names)
        if not await self._store.apply(moves, executions, nodes, merge):
            return 0  # another monitor was here: read again
        self._metrics.count(executions, nodes)
        self._metrics.applied.inc(len(rows))
        for row in rows:
            self.cursors[row.session] = (row.number, row.at)
        self.applied += len(rows)
        if rows:
            self.lag_us = max(self._clock.now() - max(row.at for row in rows), 0)
            self._metrics.behind.set(self.lag_us / 1_000_000)
        return len(rows)

    async def _learn(self, commits: Iterable[CommitFacts]) -> None:
        """Learn the nodes' ids and types of versions that are new to us, in one query."""
        wanted = {execution.version_id for commit in commits for execution in commit.executions}
        missing = [version_id for version_id in wanted if version_id not in self._names]
        if missing:
            for row in await self._versions.versions(missing):
                nodes = orjson.loads(row.definition)["nodes"]
                self._names[row.version_id] = [(node["id"], node["type"]) for node in nodes]
        for version_id in wanted:
            if version_id in self._names:
                self._names.move_to_end(version_id)
        while len(self._names) > max(VERSIONS_KEPT_MAX, len(wanted)):
            self._names.popitem(last=False)
