"""Rows that tests of the PostgreSQL adapter write."""

from __future__ import annotations

import os
from typing import Any

from services.adapters.postgres.pool import Pool
from services.adapters.postgres.start_columns import insert_starts, start_parameters
from services.core.records import FinishedExecution, HistoryRow, NewExecution

ORGANIZATION = "acme"


def new_id(at: int, shard: int | None = None) -> bytes:
    """UUIDv7 made at an instant, in a shard if one is given."""
    tail = bytearray(os.urandom(10))
    tail[0] = 0x70 | (tail[0] & 0x0F)
    tail[2] = 0x80 | (tail[2] & 0x3F)
    if shard is not None:
        tail[9] = shard
    return (at // 1000).to_bytes(6, "big") + bytes(tail)


def new_execution(at: int, **changes: Any) -> NewExecution:
    """A start at an instant; any field may be given."""
    execution_id = changes.pop("execution_id", None) or new_id(at, changes.pop("shard", None))
    fields: dict[str, Any] = {
        "execution_id": execution_id,
        "organization_id": ORGANIZATION,
        "user_id": "ann",
        "workflow_id": b"w" * 16,
        "workflow_name": "order",
        "version_id": b"v" * 16,
        "version": 3,
        "mode": "manual",
        "priority": "normal",
        "created_at": at,
        "timeout_us": 300_000_000,
        "key_root": execution_id,
        "root_execution_id": execution_id,
        "input": b'{"a":1}',
    }
    return NewExecution(**{**fields, **changes})


def history(execution_id: bytes, sequence: int, at: int, events: int = 1, data: bytes = b"e") -> HistoryRow:
    """A row of `events` events beginning at `sequence`."""
    return HistoryRow(execution_id, sequence, sequence + events - 1, at, data)


def finished(execution_id: bytes, at: int, **changes: Any) -> FinishedExecution:
    """A success at an instant; any field may be given."""
    fields: dict[str, Any] = {"status": "success", "completed_at": at, "sequence": 2, "started_at": at}
    return FinishedExecution(execution_id, **{**fields, **changes})


async def insert(pool: Pool, *executions: NewExecution) -> None:
    """Insert open executions."""
    await pool.fetch(insert_starts(), start_parameters(executions))
