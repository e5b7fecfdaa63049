"""What the commit protocol is for: lost connections, frozen owners, and what two writers do to one another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from services.adapters.postgres import commit as commit_module
from services.adapters.postgres.commit import Committer, application_name
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.sessions import SessionStore
from services.adapters.postgres.starts import StartWriter
from services.core.ports import CommitBatch, Committed, Fenced, NeverCommitted, RolledBack
from services.core.records import StartRequest
from tests.adapters.postgres.proxy import Proxy
from tests.adapters.postgres.rows import history, new_execution, new_id


async def commits(pool: Pool, session: int) -> list[tuple[int, int]]:
    """(number, kind) of a session's commits."""
    rows = await pool.fetch("select number, kind from commits where session = %s order by number", (session,))
    return [(row[0], row[1]) for row in rows]


@asynccontextmanager
async def shard_locked(url: str, pool: Pool, shard: int = 0) -> AsyncIterator[asyncio.Event]:
    """A shard's row locked by a transaction of its own: a commit that takes the shard waits. Set: let go."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        release = asyncio.Event()
        locked = asyncio.Event()

        async def hold() -> None:
            async with connection.transaction():
                await connection.execute("select 1 from shards where shard = %s for update", (shard,))
                locked.set()
                await release.wait()

        holding = asyncio.create_task(hold())
        await locked.wait()
        yield release
        release.set()
        await holding


async def waiting(pool: Pool, session: int, backends: int = 1) -> None:
    """Returns when so many of the session's backends wait for a lock."""
    query = "select 1 from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        while len(await pool.fetch(query, (application_name(session),))) < backends:
            pass


async def test_reply_that_is_lost_was_committed(
    database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    execution_id = new_id(now)
    async with Proxy(database_url) as proxy, Committer(proxy.url, session) as committer:
        # The same shape first: a statement's first use prepares it, and then it is that reply which is lost.
        for number in (1, 2):
            proxy.lose_reply = number == 2
            rows = [history(execution_id, number, now)]
            outcome = await committer.commit(CommitBatch(session, number, 1, history=rows, take_overs=[7]))
            assert isinstance(outcome, Committed)
            assert outcome.taken == (7,)
        assert proxy.lost.is_set()
    kept = await ExecutionStore(pool).history_after([(execution_id, 0)])
    assert [row.sequence for row in kept] == [1, 2]
    assert await commits(pool, session) == [(1, 0), (2, 0)]


async def test_request_that_is_lost_never_commits(
    database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    row = history(new_id(now), 1, now)
    async with Proxy(database_url) as proxy, Committer(proxy.url, session) as committer:
        assert isinstance(await committer.commit(CommitBatch(session, 1, 1)), Committed)
        proxy.lose_request = True
        assert await committer.commit(CommitBatch(session, 2, 1, history=[row])) == NeverCommitted()
        assert isinstance(await committer.commit(CommitBatch(session, 3, 1, history=[row])), Committed)
    assert await commits(pool, session) == [(1, 0), (2, 1), (3, 0)]


async def test_void_waits_for_a_backend_that_still_works(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    async with Proxy(database_url) as proxy, Committer(proxy.url, session) as committer:
        async with shard_locked(database_url, pool) as release:
            committing = asyncio.create_task(committer.commit(CommitBatch(session, 1, 1, take_overs=[0])))
            await waiting(pool, session)
            proxy.cut()
            # Two backends of the session now wait: the commit for the lock, the void for the commit.
            await waiting(pool, session, backends=2)
            assert not committing.done()
            release.set()
            outcome = await committing
    assert isinstance(outcome, Committed)
    assert outcome.taken == (0,)
    assert await commits(pool, session) == [(1, 0)]


async def test_closing_lets_a_commit_under_way_finish(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    committer = Committer(database_url, session)
    async with shard_locked(database_url, pool):
        committing = asyncio.create_task(committer.commit(CommitBatch(session, 1, 1, take_overs=[0])))
        await waiting(pool, session)
        await committer.close()
    assert isinstance(await committing, Committed)
    with pytest.raises(RuntimeError):
        await committer.commit(CommitBatch(session, 2, 1))


async def test_cancelled_commit_ends_the_committer(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    committer = Committer(database_url, session)
    async with shard_locked(database_url, pool):
        committing = asyncio.create_task(committer.commit(CommitBatch(session, 1, 1, take_overs=[0])))
        await waiting(pool, session)
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        with pytest.raises(RuntimeError):
            await committer.commit(CommitBatch(session, 1, 1))


async def test_terminated_backend_never_commits(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    async with Committer(database_url, session) as committer, shard_locked(database_url, pool):
        committing = asyncio.create_task(committer.commit(CommitBatch(session, 1, 1, take_overs=[0])))
        await waiting(pool, session)
        await pool.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s",
            (application_name(session),),
        )
        assert await committing == NeverCommitted()
    assert await commits(pool, session) == [(1, 1)]


async def test_cancelled_statement_keeps_its_number(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    batch = CommitBatch(session, 1, 1, take_overs=[0])
    async with Committer(database_url, session) as committer:
        async with shard_locked(database_url, pool):
            committing = asyncio.create_task(committer.commit(batch))
            await waiting(pool, session)
            await pool.fetch(
                "select pg_cancel_backend(pid) from pg_stat_activity where application_name = %s",
                (application_name(session),),
            )
            outcome = await committing
            assert isinstance(outcome, RolledBack)
            assert outcome.sqlstate == "57014"
        assert isinstance(await committer.commit(batch), Committed)
    assert await commits(pool, session) == [(1, 0)]


async def test_silent_server_is_cut_off(
    database_url: str, pool: Pool, sessions: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_module, "SILENCE_MAX_S", 0.2)
    session = (await sessions.open("a", "a:1", 1)).session
    async with Proxy(database_url) as proxy, Committer(proxy.url, session) as committer:
        assert isinstance(await committer.commit(CommitBatch(session, 1, 1)), Committed)
        proxy.silent = True
        committing = asyncio.create_task(committer.commit(CommitBatch(session, 2, 1)))
        await asyncio.wait([committing], timeout=0.5)
        assert not committing.done()
        proxy.silent = False
        proxy.cut()
        assert await committing == NeverCommitted()
    assert await commits(pool, session) == [(1, 0), (2, 1)]


async def test_take_over_ends_a_frozen_transaction(
    database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    old = (await sessions.open("frozen", "a:1", 1)).session
    new = (await sessions.open("b", "b:1", 1)).session
    execution_id = new_id(now, 3)
    async with Committer(database_url, old) as committer:
        assert isinstance(await committer.commit(CommitBatch(old, 1, 1, take_overs=[3])), Committed)
        # What our commits cannot do, and a backend of that name might: hold the fence and a shard, and sit still.
        frozen = await psycopg.AsyncConnection.connect(database_url, application_name=application_name(old))
        await frozen.execute("insert into commits (session, number, kind) values (%s, 2, 0)", (old,))
        await frozen.execute("select 1 from shards where shard = 3 for update")
        async with asyncio.timeout(5):
            await sessions.close_expired(old)
            async with Committer(database_url, new) as successor:
                outcome = await successor.commit(CommitBatch(new, 1, 1, take_overs=[3]))
        assert isinstance(outcome, Committed)
        assert outcome.taken == (3,)
        late = CommitBatch(old, 2, 1, history=[history(execution_id, 1, now)])
        assert await committer.commit(late) == Fenced("commits_pkey")
        with pytest.raises(psycopg.OperationalError):
            await frozen.commit()
    assert await commits(pool, old) == [(1, 0), (2, 2)]


async def test_commit_settings_end_what_idles(database_url: str, sessions: SessionStore) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    async with Committer(database_url, session) as committer:
        connection = await committer._connected()
        shown = await connection.execute("show idle_in_transaction_session_timeout")
        assert await shown.fetchone() == ("3s",)
        shown = await connection.execute("show synchronous_commit")
        assert await shown.fetchone() == ("on",)


async def deadlocks(pool: Pool, writers: list[StartWriter], now: int, rounds: int) -> int:
    """Deadlocks that two writers of the same keys, who meet them in opposite orders, run into."""
    query = "select pg_stat_force_next_flush(), deadlocks from pg_stat_database where datname = current_database()"
    for round_ in range(rounds):
        keys = [f"{round_}-{i:03}" for i in range(300)]
        puts = [
            writer.put(StartRequest(new_execution(now), key=key))
            for writer, ordered in zip(writers, (keys, keys[::-1]), strict=True)
            for key in ordered
        ]
        results = await asyncio.gather(*puts)
        assert sum(result.inserted for result in results) == len(keys)
        if found := int((await pool.fetch(query))[0][1]):
            return found
    return 0


async def test_batches_in_key_order_do_not_deadlock(database_url: str, pool: Pool, now: int) -> None:
    writers = [StartWriter(database_url), StartWriter(database_url)]
    assert await deadlocks(pool, writers, now, rounds=10) == 0
    for writer in writers:
        await writer.close()


@pytest.mark.campaign
async def test_mutant_unsorted_keys_deadlock(
    database_url: str, pool: Pool, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StartWriter, "order", lambda self, item: ("", ""))
    writers = [StartWriter(database_url), StartWriter(database_url)]
    assert await deadlocks(pool, writers, now, rounds=50) > 0
    for writer in writers:
        await writer.close()
