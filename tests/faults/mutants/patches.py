"""The mutants of services: each breaks one rule of the architecture."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

from services.adapters.postgres.rollups import RollupStore
from services.adapters.postgres.starts import StartWriter
from services.adapters.wire.feed import decode_facts
from services.core.records import StartRequest, StartResult
from services.core.tasks import Failure
from services.monitor import main as monitor
from services.monitor.duties.rollups import Rollups
from services.monitor.folding import fold
from services.monitor.sketches import merge
from services.runner.held import Held
from services.runner.outbox import Outbox
from services.scheduler.duties.repair import Repair

_background: set[asyncio.Task[Any]] = set()


def no_repair() -> None:
    """The scheduler believes its messages: rows and the work queue are never compared with memory."""

    async def nothing(self: Repair) -> dict[str, int]:
        return {}

    for name in ("rows", "leases", "tasks"):
        setattr(Repair, name, nothing)


def start_acknowledged_before_commit() -> None:
    """The api answers while the insert is still on its way."""
    insert = StartWriter.put

    async def put(self: StartWriter, item: StartRequest) -> StartResult:
        task = asyncio.ensure_future(insert(self, item))
        _background.add(task)
        return StartResult(item.start.execution_id, True, item.body_hash)

    StartWriter.put = put  # type: ignore[assignment,method-assign]


def task_acknowledged_before_verdict() -> None:
    """The runner forgets a task once its result was sent, whether anybody has counted it or not."""
    send = Outbox.add

    def add(self: Outbox, held: Held, ended_at: int, outcome: bytes | Failure | None) -> None:
        send(self, held, ended_at, outcome)
        self._flush()
        self._settle(held.token, counted=True)

    Outbox.add = add  # type: ignore[method-assign]


def rollups_from_messages() -> None:
    """The monitor counts what it hears on NATS and reads no rows."""
    heard: list[bytes] = []

    def hear(self: monitor.Hints, data: bytes, reply: str, subject: str) -> None:
        heard.append(data)
        self._wake()

    async def run_once(self: Rollups) -> dict[str, int]:
        commits = [decode_facts(data) for data in heard]
        heard.clear()
        await self._learn(commits)
        await _store(self).apply([], *fold(commits, self._names), merge)
        return {"commits": len(commits)}

    monitor.Hints.hear = hear  # type: ignore[method-assign]
    Rollups.run_once = run_once  # type: ignore[method-assign]


def _store(rollups: Rollups) -> RollupStore:
    return rollups._store


PATCHES: Mapping[str, Callable[[], None]] = {
    patch.__name__: patch
    for patch in (
        no_repair,
        start_acknowledged_before_commit,
        task_acknowledged_before_verdict,
        rollups_from_messages,
    )
}


def command(mutant: str, kind: str) -> list[str]:
    """How a mutated service is started."""
    return [sys.executable, "-m", "tests.faults.mutants", mutant, kind]
