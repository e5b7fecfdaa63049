"""Lists over open and finished executions, and who may see what."""

from __future__ import annotations

import pytest
from sqlalchemy import Table

from services.adapters.postgres import tables
from services.adapters.postgres.commit import Committer
from services.adapters.postgres.lists import ExecutionLists
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.sessions import SessionStore
from services.core.ports import CommitBatch, Committed
from services.core.records import ExecutionFilter, NewExecution
from services.core.units import SECOND
from tests.adapters.postgres.rows import finished, history, insert, new_execution


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=lambda table: table.name)
async def test_tables_are_as_migrated(pool: Pool, table: Table) -> None:
    rows = await pool.fetch(
        "select a.attname, format_type(a.atttypid, null), a.attnotnull from pg_attribute a"
        " where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum",
        (table.name,),
    )
    names = {"timestamptz": "timestamp with time zone", "LargeBinary": "bytea"}
    types = {"INTEGER": "integer", "SMALLINT": "smallint", "TEXT": "text", "BLOB": "bytea", **names}
    described = []
    for column in table.columns:
        name = str(column.type) if not isinstance(column.type, tables.RawType) else column.type.name
        described.append((column.name, types.get(name, name), not column.nullable))
    assert rows == described


async def populate(database_url: str, pool: Pool, sessions: SessionStore, now: int) -> list[NewExecution]:
    """Ten executions a second apart: 0–4 finished (odd ones failed), 5–7 running, 8 and 9 pending."""
    made = [
        new_execution(
            now - (10 - i) * SECOND,
            user_id="ann" if i % 2 else "bob",
            mode="api" if i in {1, 6} else "manual",
            labels={"team": "red", "n": str(i)} if i % 3 == 0 else {},
        )
        for i in range(10)
    ]
    stranger = new_execution(now, organization_id="other")
    await insert(pool, *made, stranger)
    session = (await sessions.open("a", "a:1", 1)).session
    async with Committer(database_url, session) as committer:
        batch = CommitBatch(
            session,
            1,
            1,
            history=[history(e.execution_id, 1, now, 2) for e in made[:8]],
            ends=[
                finished(e.execution_id, now, status="failed" if i % 2 else "success", output=b"{}")
                for i, e in enumerate(made[:5])
            ],
        )
        assert isinstance(await committer.commit(batch), Committed)
    return made


CASES = [
    (ExecutionFilter(), range(10)),
    (ExecutionFilter(statuses=frozenset({"pending"})), [8, 9]),
    (ExecutionFilter(statuses=frozenset({"running", "failed"})), [1, 3, 5, 6, 7]),
    (ExecutionFilter(statuses=frozenset({"success"})), [0, 2, 4]),
    (ExecutionFilter(modes=frozenset({"api"})), [1, 6]),
    (ExecutionFilter(user_id="ann", statuses=frozenset({"failed", "pending"})), [1, 3, 9]),
    (ExecutionFilter(labels={"team": "red"}), [0, 3, 6, 9]),
    (ExecutionFilter(labels={"team": "red", "n": "6"}), [6]),
    (ExecutionFilter(workflow_id=b"x" * 16), []),
    (ExecutionFilter(workflow_id=b"w" * 16), range(10)),
]


async def test_list_filters_and_pages(
    database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    made = await populate(database_url, pool, sessions, now)
    lists = ExecutionLists(pool, now=lambda: now)
    for wanted, expected in CASES:
        for oldest_first in (True, False):
            seen: list[int] = []
            after = None
            while True:
                page = await lists.list(
                    "acme", wanted, limit=2, after=after, oldest_first=oldest_first, payloads=False
                )
                seen += [next(i for i, e in enumerate(made) if e == _with(r.start, e)) for r in page]
                if len(page) < 2:
                    break
                after = (page[-1].start.created_at, page[-1].start.execution_id)
            assert seen == (list(expected) if oldest_first else list(expected)[::-1]), wanted
    window = ExecutionFilter(created_after=made[2].created_at, created_before=made[4].created_at)
    records = await lists.list("acme", window, limit=10, payloads=True)
    assert [r.start for r in records] == [made[3], made[2]]
    assert [(r.status, r.open, r.output) for r in records] == [
        ("failed", False, b"{}"),
        ("success", False, b"{}"),
    ]


def _with(listed: NewExecution, made: NewExecution) -> NewExecution:
    """What was made, with the payloads that a list leaves out: none."""
    assert listed.input is None
    return made if listed.execution_id == made.execution_id else listed
