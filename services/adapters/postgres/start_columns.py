"""The columns that `open_executions` and `executions` share: how a start is written, copied and read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.adapters.postgres import binary
from services.adapters.postgres.connection import Row
from services.core.ids import shard_of
from services.core.records import NewExecution

# In the order of NewExecution's fields after `execution_id`, which every reader and writer relies on.
START_COLUMNS = (
    "organization_id",
    "user_id",
    "workflow_id",
    "workflow_name",
    "version_id",
    "version",
    "mode",
    "priority",
    "created_at",
    "timeout_us",
    "key_root",
    "root_execution_id",
    "input",
    "labels",
    "retry_count",
    "retry_of_execution_id",
    "rollback_of_execution_id",
    "parent_execution_id",
    "schedule_id",
    "template_id",
    "options",
)
START_WIDTH = 1 + len(START_COLUMNS)
_INPUT = START_COLUMNS.index("input")
_OPTIONS = START_COLUMNS.index("options")

_INSERTED = ("execution_id", "shard", *START_COLUMNS, "asleep", "wake_at")
_TYPES = (
    "uuid[]", "smallint[]", "text[]", "text[]", "uuid[]", "text[]", "uuid[]", "integer[]", "text[]", "text[]",
    "timestamptz[]", "bigint[]", "uuid[]", "uuid[]", "bytea[]", "jsonb[]", "integer[]", "uuid[]", "uuid[]",
    "uuid[]", "uuid[]", "uuid[]", "bytea[]", "boolean[]", "timestamptz[]",
)  # fmt: skip


def start_list(prefix: str = "", *, payloads: bool = True) -> str:
    """`execution_id` and the start columns for a select list; `input` and `options` null without payloads."""
    names = [f"{prefix}{name}" for name in ("execution_id", *START_COLUMNS)]
    if not payloads:
        names[1 + _INPUT] = names[1 + _OPTIONS] = "null::bytea"
    return ", ".join(names)


def start_of(row: Row) -> NewExecution:
    """The start in the first START_WIDTH values of a row."""
    return NewExecution(*row[:START_WIDTH])


def insert_starts(condition: str = "") -> str:
    """Insert of open executions from the parameters of `start_parameters`, rows named `r`."""
    arrays = ", ".join(f"%(start_{name})s::{kind}" for name, kind in zip(_INSERTED, _TYPES, strict=True))
    names = ", ".join(_INSERTED)
    return (
        f"insert into open_executions ({names}) select {names} from unnest({arrays}) as r ({names})"
        f"{condition} on conflict (execution_id) do nothing"
    )


def start_parameters(starts: Sequence[NewExecution]) -> dict[str, Any]:
    """Parameters of `insert_starts`, in the order given."""
    b = binary
    return {
        "start_execution_id": b.uuids(s.execution_id for s in starts),
        "start_shard": b.smallints(shard_of(s.execution_id) for s in starts),
        "start_organization_id": b.texts(s.organization_id for s in starts),
        "start_user_id": b.texts(s.user_id for s in starts),
        "start_workflow_id": b.uuids(s.workflow_id for s in starts),
        "start_workflow_name": b.texts(s.workflow_name for s in starts),
        "start_version_id": b.uuids(s.version_id for s in starts),
        "start_version": b.integers(s.version for s in starts),
        "start_mode": b.texts(s.mode for s in starts),
        "start_priority": b.texts(s.priority for s in starts),
        "start_created_at": b.timestamps(s.created_at for s in starts),
        "start_timeout_us": b.bigints(s.timeout_us for s in starts),
        "start_key_root": b.uuids(s.key_root for s in starts),
        "start_root_execution_id": b.uuids(s.root_execution_id for s in starts),
        "start_input": b.byteas(s.input for s in starts),
        "start_labels": b.jsonbs(s.labels for s in starts),
        "start_retry_count": b.integers(s.retry_count for s in starts),
        "start_retry_of_execution_id": b.uuids(s.retry_of_execution_id for s in starts),
        "start_rollback_of_execution_id": b.uuids(s.rollback_of_execution_id for s in starts),
        "start_parent_execution_id": b.uuids(s.parent_execution_id for s in starts),
        "start_schedule_id": b.uuids(s.schedule_id for s in starts),
        "start_template_id": b.uuids(s.template_id for s in starts),
        "start_options": b.byteas(s.options for s in starts),
        "start_asleep": b.booleans(s.wake_at is not None for s in starts),
        "start_wake_at": b.timestamps(s.wake_at for s in starts),
    }
