"""Starts and commands: inserted in groups, each key once, whatever becomes of the connection."""

from __future__ import annotations

import asyncio

import pytest

from services.adapters.postgres.commands import CommandStore, CommandWriter
from services.adapters.postgres.errors import DataRefusedError
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.sessions import SessionStore
from services.adapters.postgres.starts import IdempotencyKeys, StartWriter
from services.core.records import NewCommand, StartRequest, StartResult
from tests.adapters.postgres.proxy import Proxy
from tests.adapters.postgres.rows import new_execution, new_id


async def count(pool: Pool, table: str) -> int:
    """Rows of a table."""
    return int((await pool.fetch(f"select count(*) from {table}"))[0][0])


async def test_starts_go_in_groups_and_each_key_once(database_url: str, pool: Pool, now: int) -> None:
    writers = [StartWriter(database_url), StartWriter(database_url)]
    requests = [
        StartRequest(
            new_execution(now, shard=i % 256), key=f"key-{i % 50}" if i % 2 else "", body_hash=b"%d" % i
        )
        for i in range(400)
    ]
    results = await asyncio.gather(*(writers[i % 3 % 2].put(request) for i, request in enumerate(requests)))
    assert sum(writer.batches for writer in writers) < 100
    by_key: dict[str, StartResult] = {}
    for request, result in zip(requests, results, strict=True):
        if result.inserted:
            assert result.execution_id == request.start.execution_id
            assert request.key not in by_key
            if request.key:
                by_key[request.key] = result
    for request, result in zip(requests, results, strict=True):
        if request.key:
            assert (result.execution_id, result.body_hash) == (
                by_key[request.key].execution_id,
                by_key[request.key].body_hash,
            )
    assert await count(pool, "open_executions") == 200 + len(by_key) == 225
    found = await IdempotencyKeys(pool).execution_of("acme", "key-1")
    assert found == StartResult(by_key["key-1"].execution_id, False, by_key["key-1"].body_hash)
    assert await IdempotencyKeys(pool).execution_of("other", "key-1") is None
    for writer in writers:
        await writer.close()


async def test_refused_start_fails_alone(database_url: str, pool: Pool, now: int) -> None:
    writer = StartWriter(database_url)
    starts = [new_execution(now) for _ in range(8)]
    starts[2] = new_execution(now, workflow_name="a\x00b")
    starts[5] = new_execution(10**15)  # no partition
    starts[4] = new_execution(now, labels={"a": "\ud800"})
    starts[6] = new_execution(now, user_id="\ud800")
    tasks = [
        asyncio.create_task(writer.put(StartRequest(start, key=f"k{i}"))) for i, start in enumerate(starts)
    ]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = {i for i, result in enumerate(results) if isinstance(result, DataRefusedError)}
    assert refused == {2, 4, 5, 6}
    assert await count(pool, "open_executions") == 4 == await count(pool, "idempotency_keys")
    await writer.close()


async def test_lost_connection_starts_once(database_url: str, pool: Pool, now: int) -> None:
    writer = StartWriter(database_url)
    await writer.put(StartRequest(new_execution(now)))
    for round_ in range(5):
        await pool.fetch(
            "select pg_terminate_backend(pid, 1000) from pg_stat_activity where application_name = 'wc-starts'"
        )
        result = await writer.put(StartRequest(new_execution(now), key=f"k{round_}"))
        assert result.inserted
    assert await count(pool, "open_executions") == 6
    # Nothing was sent over a connection that had ended, so no batch was given up for unknown.
    kinds = await pool.fetch("select kind, count(*) from insert_batches group by kind order by kind")
    assert kinds == [(0, 6)]
    await writer.close()


async def test_lost_reply_and_lost_request_start_once(database_url: str, pool: Pool, now: int) -> None:
    async with Proxy(database_url) as proxy:
        writer = StartWriter(proxy.url)
        await writer.put(StartRequest(new_execution(now)))
        for lost in ("lose_reply", "lose_request"):
            proxy.lost.clear()
            setattr(proxy, lost, True)
            assert (await writer.put(StartRequest(new_execution(now), key=lost))).inserted
            assert proxy.lost.is_set()
        await writer.close()
    assert await count(pool, "open_executions") == 3
    # The batch whose reply was lost is known to be made; the one whose request was lost can never be made now.
    kinds = await pool.fetch("select kind, count(*) from insert_batches group by kind order by kind")
    assert kinds == [(0, 3), (1, 1)]


async def test_restart_after_failure_moves_the_key(database_url: str, pool: Pool, now: int) -> None:
    writer = StartWriter(database_url)
    first = await writer.put(StartRequest(new_execution(now), key="k", body_hash=b"1"))
    second = new_execution(now)
    request = StartRequest(second, key="k", body_hash=b"2", replaces=first.execution_id)
    assert await writer.put(request) == StartResult(second.execution_id, True, b"2")
    third = StartRequest(new_execution(now), key="k", body_hash=b"3", replaces=first.execution_id)
    assert await writer.put(third) == StartResult(second.execution_id, False, b"2")
    assert await count(pool, "open_executions") == 2
    await writer.close()


async def test_delayed_start_sleeps(database_url: str, pool: Pool, now: int) -> None:
    writer = StartWriter(database_url)
    start = new_execution(now, shard=5, wake_at=now + 3_600_000_000)
    await writer.put(StartRequest(start))
    store = ExecutionStore(pool)
    assert await store.awake([5], 10) == []
    assert await pool.fetch("select wake_at from open_executions where asleep") == [(start.wake_at,)]
    await writer.close()


async def test_commands_are_recorded_once(
    database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    writer, store = CommandWriter(database_url), CommandStore(pool)
    execution_id = new_id(now, 4)

    def command(request_id: str, body: bytes = b"{}") -> NewCommand:
        return NewCommand(new_id(now), execution_id, "acme", request_id, "cancel", body, now, "ann")

    first, other = command("r1"), command("r2")
    rows = await asyncio.gather(*(writer.put(c) for c in (first, other, command("r1", b"x"))))
    assert {row.command for row in rows} == {first, other}
    assert (await writer.put(command("r1"))).command == first
    assert {row.command for row in await ExecutionStore(pool).unanswered_commands([4], 10)} == {first, other}
    assert await store.decided([first.command_id]) == []
    await pool.fetch("update commands set verdict = 'accepted', verdict_body = 'v' where request_id = 'r1'")
    assert [row.verdict for row in await store.decided([first.command_id, other.command_id])] == ["accepted"]
    assert [row.verdict_body for row in await store.decided([first.command_id])] == [b"v"]
    with pytest.raises(DataRefusedError):
        await writer.put(command("a\x00"))
    await writer.close()
