"""Executions as clients see them: lists over open and finished ones, and single records. One organization only.

A list is one statement, hence one snapshot: an execution that ends meanwhile is neither missing nor there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.adapters.ids import lowest_id
from services.adapters.postgres.binary import Bigint, Jsonb, Timestamp, Uuid, texts
from services.adapters.postgres.connection import Row
from services.adapters.postgres.list_statement import (
    PENDING,
    RESULT_COLUMNS,
    RUNNING,
    Shape,
    list_text,
)
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.start_columns import START_WIDTH, start_of
from services.core.records import ExecutionFilter, ExecutionRecord, Position
from services.core.units import DAY

# Ids are made within moments of `created_at`; the bounds on ids only choose partitions, so they may be wide.
_ID_SLACK_US = DAY


class ExecutionLists:
    """Reads executions for clients. `now` is database time: with it the months to come are not looked at."""

    def __init__(self, pool: Pool, now: Callable[[], int] | None = None) -> None:
        self._pool = pool
        self._now = now

    async def list(
        self,
        organization_id: str,
        wanted: ExecutionFilter,
        *,
        limit: int,
        after: Position | None = None,
        oldest_first: bool = False,
        payloads: bool = False,
    ) -> Sequence[ExecutionRecord]:
        """Executions by (created_at, id), newest first unless asked otherwise, after a position."""
        parameters = _parameters(wanted)
        low, high = wanted.created_after, wanted.created_before
        if high is None and self._now is not None:
            high = self._now()
        if after is not None:
            parameters["after_at"], parameters["after_id"] = Timestamp(after[0]), Uuid(after[1])
            if oldest_first:
                low = after[0] if low is None else max(low, after[0])
            else:
                high = after[0] if high is None else min(high, after[0])
        if low is not None:
            parameters["low_id"] = Uuid(lowest_id(low - _ID_SLACK_US))
        if high is not None:
            parameters["high_id"] = Uuid(lowest_id(high + _ID_SLACK_US))
        names = wanted.statuses.intersection({PENDING, RUNNING}).union(parameters)
        text = list_text(Shape(names, oldest_first, payloads))
        parameters.update(organization_id=organization_id, limit=Bigint(limit))
        return [_record(row) for row in await self._pool.fetch(text, parameters)]


def _parameters(wanted: ExecutionFilter) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, value in (
        ("workflow_id", wanted.workflow_id),
        ("retry_of_execution_id", wanted.retry_of),
        ("parent_execution_id", wanted.parent),
        ("root_execution_id", wanted.root),
    ):
        if value is not None:
            parameters[name] = Uuid(value)
    if wanted.user_id is not None:
        parameters["user_id"] = wanted.user_id
    if wanted.modes:
        parameters["modes"] = texts(sorted(wanted.modes))
    if wanted.statuses:
        parameters["statuses"] = texts(sorted(wanted.statuses))
    if wanted.labels:
        parameters["labels"] = Jsonb(dict(wanted.labels))
    if wanted.created_after is not None:
        parameters["created_after"] = Timestamp(wanted.created_after)
    if wanted.created_before is not None:
        parameters["created_before"] = Timestamp(wanted.created_before)
    return parameters


def _record(row: Row) -> ExecutionRecord:
    result = dict(zip(RESULT_COLUMNS, row[START_WIDTH:-1], strict=True))
    return ExecutionRecord(start_of(row), open=row[-1], **result)
