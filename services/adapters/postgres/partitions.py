"""Monthly partitions of what is keyed by execution id: made ahead of time, by the months of UUIDv7.

A partition is built beside its table and then attached, which blocks neither readers nor writers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg

from services.adapters.ids import lowest_id
from services.core.units import SECOND

TABLES = ("executions", "execution_history", "execution_logs")
MONTHS_BEHIND = 1
# Every partition costs each plan that cannot leave it out; a scheduler makes the next ones in time.
MONTHS_AHEAD = 4
_LOCK = 0x7763_7061  # advisory lock, "wcpa": one maker of partitions at a time

Month = tuple[int, int]


def month_of(at: int, offset: int = 0) -> Month:
    """(year, month) of an instant in microseconds, `offset` months later."""
    day = datetime.fromtimestamp(at / 1_000_000, UTC)
    year, month0 = divmod(day.year * 12 + day.month - 1 + offset, 12)
    return year, month0 + 1


def month_bound(month: Month) -> bytes:
    """Lowest id of the month."""
    return lowest_id(int(datetime(month[0], month[1], 1, tzinfo=UTC).timestamp()) * SECOND)


def _after(month: Month) -> Month:
    year, month0 = divmod(month[0] * 12 + month[1], 12)
    return year, month0 + 1


async def ensure_partitions(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    """Make the partitions of last month to `MONTHS_AHEAD` ahead that are missing; returns the names of those made.

    Repeating it, also from two processes at once, is harmless. Needs a connection in autocommit.
    """
    made: list[str] = []
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor = await connection.execute("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
        row = await cursor.fetchone()
        assert row is not None
        cursor = await connection.execute(
            "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = any(%s::regclass[])",
            (list(TABLES),),
        )
        existing = {str(name) for (name,) in await cursor.fetchall()}
        for offset in range(-MONTHS_BEHIND, MONTHS_AHEAD + 1):
            month = month_of(int(row[0]), offset)
            for table in TABLES:
                name = f"{table}_{month[0]:04}_{month[1]:02}"
                if name not in existing:
                    await _make(connection, table, name, month)
                    made.append(name)
    return made


async def _make(connection: psycopg.AsyncConnection[Any], table: str, name: str, month: Month) -> None:
    low, high = month_bound(month).hex(), month_bound(_after(month)).hex()
    await connection.execute(f"create table {name} (like {table} including defaults including storage)")
    await connection.execute(
        f"alter table {table} attach partition {name} for values from ('{low}') to ('{high}')"
    )


async def covered_range(connection: psycopg.AsyncConnection[Any]) -> tuple[bytes, bytes]:
    """Lowest id that has a partition and the first above all that have: ids outside are refused at the start.

    Raises LookupError when there are no partitions.
    """
    cursor = await connection.execute(
        "select min(c.relname), max(c.relname) from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'executions'::regclass",
    )
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        raise LookupError("executions has no partitions")
    first, last = ((int(name[-7:-3]), int(name[-2:])) for name in row)
    return month_bound(first), month_bound(_after(last))
