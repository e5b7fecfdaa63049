"""The tables that lists are built from, as SQLAlchemy Core sees them. The migrations make them; a test compares.

Values pass through untouched: ids are raw bytes, instants microseconds, both wrapped by `binary` when sent.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Integer, LargeBinary, MetaData, SmallInteger, Table, Text
from sqlalchemy.types import UserDefinedType


class RawType(UserDefinedType[Any]):
    """A PostgreSQL type whose values psycopg reads and writes by our own adapters."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        """Name of the type."""
        return self.name


UUID = RawType("uuid")
TIMESTAMP = RawType("timestamptz")
BIGINT = RawType("bigint")
JSONB = RawType("jsonb")

metadata = MetaData()


def _start_columns() -> list[Column[Any]]:
    return [
        Column("organization_id", Text, nullable=False),
        Column("user_id", Text, nullable=False),
        Column("workflow_id", UUID, nullable=False),
        Column("workflow_name", Text, nullable=False),
        Column("version_id", UUID, nullable=False),
        Column("version", Integer, nullable=False),
        Column("mode", Text, nullable=False),
        Column("priority", Text, nullable=False),
        Column("created_at", TIMESTAMP, nullable=False),
        Column("timeout_us", BIGINT, nullable=False),
        Column("key_root", UUID, nullable=False),
        Column("root_execution_id", UUID, nullable=False),
        Column("input", LargeBinary),
        Column("labels", JSONB, nullable=False),
        Column("retry_count", Integer, nullable=False),
        Column("retry_of_execution_id", UUID),
        Column("rollback_of_execution_id", UUID),
        Column("parent_execution_id", UUID),
        Column("schedule_id", UUID),
        Column("template_id", UUID),
        Column("options", LargeBinary),
    ]


open_executions = Table(
    "open_executions",
    metadata,
    Column("execution_id", UUID, primary_key=True),
    Column("shard", SmallInteger, nullable=False),
    *_start_columns(),
    Column("asleep", RawType("boolean"), nullable=False),
    Column("wake_at", TIMESTAMP),
    Column("sequence", BIGINT, nullable=False),
    Column("snapshot", LargeBinary),
    Column("quarantine", LargeBinary),
)

executions = Table(
    "executions",
    metadata,
    Column("execution_id", UUID, primary_key=True),
    *_start_columns(),
    Column("status", Text, nullable=False),
    Column("status_reason", Text, nullable=False),
    Column("output", LargeBinary),
    Column("error", LargeBinary),
    Column("started_at", TIMESTAMP),
    Column("completed_at", TIMESTAMP, nullable=False),
    Column("nodes_executed", Integer, nullable=False),
    Column("nodes_failed", Integer, nullable=False),
    Column("metrics", LargeBinary),
    Column("sequence", BIGINT, nullable=False),
    Column("snapshot", LargeBinary),
)

execution_history = Table(
    "execution_history",
    metadata,
    Column("execution_id", UUID, primary_key=True),
    Column("sequence", BIGINT, primary_key=True),
    Column("last_sequence", BIGINT, nullable=False),
    Column("at", TIMESTAMP, nullable=False),
    Column("session", BIGINT, nullable=False),
    Column("number", BIGINT, nullable=False),
    Column("events_version", SmallInteger, nullable=False),
    Column("events", LargeBinary, nullable=False),
)
