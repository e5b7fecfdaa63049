"""Workflows, migrations, partitions, and a pool whose server restarts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg
import pytest

from services.adapters.postgres import binary
from services.adapters.postgres.commit import Committer
from services.adapters.postgres.connection import fetch
from services.adapters.postgres.errors import DatabaseUnavailableError, DataRefusedError
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.migrate import migrate
from services.adapters.postgres.partitions import (
    MONTHS_AHEAD,
    TABLES,
    covered_range,
    ensure_partitions,
    month_bound,
    month_of,
)
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.revision import SchemaUnknownError, check_schema
from services.adapters.postgres.sessions import SessionStore
from services.adapters.postgres.starts import StartWriter
from services.adapters.postgres.workflows import NewVersion, WorkflowStore
from services.core.ports import CommitBatch, Committed, NeverCommitted
from services.core.records import StartRequest
from services.core.units import DAY
from services.local.postgres import EmbeddedPostgres
from tests.adapters.postgres.rows import insert, new_execution, new_id


def version(at: int, content: bytes) -> NewVersion:
    """Content to save."""
    return NewVersion(new_id(at), new_id(at), content, content.ljust(32), 1, at, "ann")


async def test_versions_are_made_by_new_content_only(pool: Pool, now: int) -> None:
    store = WorkflowStore(pool)
    created = await store.create("acme", "order", version(now, b"1"))
    assert created is not None
    assert created.made
    workflow_id = created.workflow.workflow_id
    repeated = await store.create("acme", "order", version(now, b"1"))
    assert repeated == replace(created, made=False)
    assert await store.create("acme", "order", version(now, b"2")) is None
    second = await store.update("acme", workflow_id, version(now + 5, b"2"))
    assert second is not None
    assert (second.version.version, second.made, second.workflow.latest_version) == (2, True, 2)
    assert (second.workflow.created_at, second.workflow.updated_at) == (now, now + 5)
    for content, number in ((b"1", 1), (b"2", 2)):
        same = await store.update("acme", workflow_id, version(now + 9, content))
        assert same is not None
        assert (same.version.version, same.made, same.workflow.latest_version) == (number, False, 2)
    assert await store.create("acme", "order", version(now, b"1")) is None
    assert await store.update("other", workflow_id, version(now, b"3")) is None
    assert await store.by_name("acme", "order") == await store.by_id("acme", workflow_id) == second.workflow
    assert await store.by_id("other", workflow_id) is None
    assert await store.version("acme", workflow_id, 2) == second.version
    assert await store.version("other", workflow_id, 2) is None
    assert await ExecutionStore(pool).versions([second.version.version_id]) == [second.version]
    with pytest.raises(DataRefusedError):
        await pool.fetch("update workflow_versions set definition = ''")


async def test_two_savers_take_turns(pool: Pool, now: int) -> None:
    store = WorkflowStore(pool)
    creations = await asyncio.gather(*(store.create("acme", "w", version(now, b"%d" % i)) for i in range(4)))
    [created] = [saved for saved in creations if saved is not None]
    contents = [b"x%d" % (i % 5) for i in range(20)]
    saved = await asyncio.gather(
        *(store.update("acme", created.workflow.workflow_id, version(now, content)) for content in contents)
    )
    numbers = {row.version.content_hash: row.version.version for row in saved if row is not None}
    assert sorted(numbers.values()) == [2, 3, 4, 5, 6]
    assert sum(row.made for row in saved if row is not None) == 5


async def test_migrating_twice_at_once_and_refusing_what_is_unknown(empty_database_url: str) -> None:
    async with Pool(empty_database_url) as pool:
        with pytest.raises(SchemaUnknownError):
            await pool.run(check_schema)
        await asyncio.gather(*(asyncio.to_thread(migrate, empty_database_url) for _ in range(2)))
        await pool.run(check_schema)
        await pool.fetch("update alembic_version set version_num = '9999'")
        with pytest.raises(SchemaUnknownError, match="9999"):
            await pool.run(check_schema)


async def test_partitions_cover_last_month_to_the_months_ahead(pool: Pool, now: int) -> None:
    assert await pool.run(ensure_partitions) == []
    await pool.fetch(f"drop table executions_{month_of(now)[0]}_{month_of(now)[1]:02}")
    made = await asyncio.gather(*(pool.run(ensure_partitions) for _ in range(3)))
    assert sum(map(len, made)) == 1
    low, high = await pool.run(covered_range)
    assert low == month_bound(month_of(now, -1))
    assert high == month_bound(month_of(now, MONTHS_AHEAD + 1))
    assert low < new_id(now) < new_id(now + 28 * MONTHS_AHEAD * DAY) < high
    indexes = await pool.fetch(
        "select count(*) from pg_inherits i join pg_index x on x.indexrelid = i.inhrelid and x.indisvalid"
    )
    assert indexes[0][0] == (MONTHS_AHEAD + 2) * (6 + 1 + 2)
    assert len(TABLES) == 3


async def test_finished_rows_and_history_are_never_updated(pool: Pool, now: int) -> None:
    execution = new_execution(now)
    await insert(pool, execution)
    await pool.fetch(
        "insert into execution_history values (%s::uuid, 1, 1, clock_timestamp(), 1, 1, 1, '')",
        (execution.execution_id.hex(),),
    )
    with pytest.raises(DataRefusedError):
        await pool.fetch("update execution_history set events = 'x'")


async def test_values_keep_their_type_and_value(pool: Pool, now: int) -> None:
    ids = [new_id(now), None]
    row = await pool.fetch(
        "select %s::uuid[], %s::bytea[], %s::timestamptz[], %s::bigint[], %s::smallint[], %s::integer[],"
        " %s::boolean[], %s::text[], %s::jsonb[], %s::uuid, %s::timestamptz, %s::jsonb, %s::text[]",
        (
            binary.uuids(ids),
            binary.byteas([b"", None, b"\x00"]),
            binary.timestamps([now, None, 1]),
            binary.bigints([-1, 2**62]),
            binary.smallints([-2, 7]),
            binary.integers([2**31 - 1]),
            binary.booleans([True, False]),
            binary.texts(["ä", None, ""]),
            binary.jsonbs([{"a": "ü"}]),
            binary.Uuid(bytes(16)),
            binary.Timestamp(now),
            binary.Jsonb({"n": 1}),
            binary.texts([]),
        ),
    )
    assert row == [
        (
            ids, [b"", None, b"\x00"], [now, None, 1], [-1, 2**62], [-2, 7], [2**31 - 1], [True, False],
            ["ä", None, ""], [{"a": "ü"}], bytes(16), now, {"n": 1}, [],
        )
    ]  # fmt: skip


async def test_restart_of_the_server_is_survived(
    postgres: EmbeddedPostgres, database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    writer = StartWriter(database_url)
    await writer.put(StartRequest(new_execution(now)))
    await asyncio.gather(*(pool.fetch("select pg_sleep(0.01)") for _ in range(4)))
    async with Committer(database_url, session) as committer:
        assert isinstance(await committer.commit(CommitBatch(session, 1, 1)), Committed)
        await postgres.kill()
        failing = asyncio.create_task(pool.fetch("select 1"))
        committing = asyncio.create_task(committer.commit(CommitBatch(session, 2, 1)))
        with pytest.raises(DatabaseUnavailableError):
            await failing
        assert not committing.done()
        await postgres.start()
        assert await committing == NeverCommitted()
        assert isinstance(await committer.commit(CommitBatch(session, 3, 1)), Committed)
    # Every idle connection is dead, and nobody sees it.
    assert await asyncio.gather(*(pool.fetch("select 1") for _ in range(4))) == [[(1,)]] * 4
    assert (await writer.put(StartRequest(new_execution(now), key="k"))).inserted
    await writer.close()


async def test_statement_that_takes_too_long_is_cut(database_url: str) -> None:
    async with Pool(database_url, statement_timeout_ms=50) as pool:
        with pytest.raises(DatabaseUnavailableError):
            await pool.fetch("select pg_sleep(5)")
        assert await pool.fetch("select 1") == [(1,)]


async def test_mistakes_of_ours_are_not_refusals(pool: Pool) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn):
        await pool.fetch("select nothing from shards")

    async def broken(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        await fetch(connection, "update shards set session = 1")
        raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError):
        await pool.transact(broken)
    assert await pool.fetch("select count(*) from shards where session is not null") == [(0,)]
