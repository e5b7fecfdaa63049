"""Sessions and shards: leases, who may take what, and a process that sleeps through its own end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from services.adapters.postgres import commit_statement
from services.adapters.postgres.commit import Committer
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.sessions import LEASE_US, SessionStore
from services.core.ports import CommitBatch, Committed, Fenced
from services.core.units import HOUR
from tests.adapters.postgres.rows import history, new_id

ROOT = Path(__file__).parents[3]
OWNER = """
import asyncio, sys
from services.adapters.postgres.commit import Committer
from services.core.ports import CommitBatch, Committed

async def main(url, session):
    async with Committer(url, session) as committer:
        number = 0
        while True:
            outcome = await committer.commit(CommitBatch(session, number + 1, 1))
            if not isinstance(outcome, Committed):
                print(type(outcome).__name__, flush=True)
                return
            number += 1
            if number == 20:
                print("twenty", flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_lease_is_in_database_time(pool: Pool, sessions: SessionStore) -> None:
    before = await sessions.database_now()
    row = await sessions.open("host-1", "10.0.0.1:9000", 4)
    assert (row.holder, row.address, row.events_version) == ("host-1", "10.0.0.1:9000", 4)
    assert before + LEASE_US <= row.lease_until <= await sessions.database_now() + LEASE_US
    renewed = await sessions.renew(row.session)
    assert renewed is not None
    assert renewed > row.lease_until
    assert [living.session for living in await sessions.living()] == [row.session]
    await sessions.close_own(row.session)
    assert await sessions.renew(row.session) is None
    assert await sessions.living() == []
    assert await sessions.renew(10**6) is None


async def test_expired_sessions_are_found_but_not_right_after_a_start(
    pool: Pool, sessions: SessionStore
) -> None:
    short = SessionStore(pool, lease_us=1)
    session = (await short.open("a", "a:1", 1)).session
    living = (await sessions.open("b", "b:1", 1)).session
    assert await short.expired() == [session]
    # A server that has been up for less than one lease: nobody is taken from.
    patient = SessionStore(pool, lease_us=1_000_000 * HOUR)
    assert await patient.expired() == []
    await short.close_expired(session)
    assert await short.expired() == []
    assert [row.session for row in await sessions.living()] == [living]


async def test_closing_takes_the_next_number_once(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    async with Committer(database_url, session) as committer:
        for number in (1, 2, 3):
            assert isinstance(await committer.commit(CommitBatch(session, number, 1)), Committed)
    await asyncio.gather(*(sessions.close_expired(session) for _ in range(5)))
    rows = await pool.fetch("select number, kind from commits where session = %s order by number", (session,))
    assert rows == [(1, 0), (2, 0), (3, 0), (4, 2)]


async def test_shards_are_taken_from_the_dead_only(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    one, two = [(await sessions.open(name, "x:1", 1)).session for name in "ab"]
    async with Committer(database_url, one) as first, Committer(database_url, two) as second:
        got = await first.commit(CommitBatch(one, 1, 1, take_overs=range(128)))
        assert isinstance(got, Committed)
        assert len(got.taken) == 128
        got = await second.commit(CommitBatch(two, 1, 1, take_overs=range(100, 140)))
        assert isinstance(got, Committed)
        assert sorted(got.taken) == list(range(128, 140))
        assert (await sessions.shard_map())[100] == one
        got = await first.commit(CommitBatch(one, 2, 1, hand_overs=[(0, two), (1, two), (130, one)]))
        assert isinstance(got, Committed)
        assert sorted(got.handed_over) == [0, 1]
        await sessions.close_own(one)
        got = await second.commit(CommitBatch(two, 2, 1, take_overs=range(256)))
        assert isinstance(got, Committed)
        assert len(got.taken) == 256 - 12 - 2
        # Nothing is handed to a session that is closed.
        got = await second.commit(CommitBatch(two, 3, 1, hand_overs=[(0, one)]))
        assert isinstance(got, Committed)
        assert got.handed_over == ()
    assert await sessions.shard_map() == [two] * 256


async def test_shard_with_newer_events_is_left_alone(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    newer = (await sessions.open("new", "x:1", 2)).session
    older = (await sessions.open("old", "x:1", 1)).session
    async with Committer(database_url, newer) as new, Committer(database_url, older) as old:
        await new.commit(CommitBatch(newer, 1, 2, take_overs=[1, 2]))
        handed = await new.commit(CommitBatch(newer, 2, 2, hand_overs=[(1, older)]))
        assert isinstance(handed, Committed)
        assert handed.handed_over == ()
        await sessions.close_own(newer)
        taken = await old.commit(CommitBatch(older, 1, 1, take_overs=[1, 2, 3]))
        assert isinstance(taken, Committed)
        assert taken.taken == (3,)


async def test_process_that_slept_through_its_lease_is_fenced(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    session = (await sessions.open("sleeper", "a:1", 1)).session
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, database_url, str(session), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"twenty\n"
        os.kill(process.pid, signal.SIGSTOP)
        async with asyncio.timeout(5):
            await sessions.close_expired(session)
        ((kind,),) = await pool.fetch(
            "select kind from commits where session = %s order by number desc limit 1", (session,)
        )
        assert kind == 2
        os.kill(process.pid, signal.SIGCONT)
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"Fenced\n"
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.campaign
async def test_mutant_without_the_fence_lets_a_closed_session_write(
    database_url: str, pool: Pool, sessions: SessionStore, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    await sessions.close_expired(session)
    batch = CommitBatch(session, 1, 1, history=[history(new_id(now), 1, now)])
    async with Committer(database_url, session) as committer:
        assert isinstance(await committer.commit(batch), Fenced)
        commit_statement.statement.cache_clear()
        unfenced = (
            "fence as (select clock_timestamp() as at, %(number)s::bigint as n, %(digest)s::bytea as d)"
        )
        monkeypatch.setattr(commit_statement, "_FENCE", unfenced)
        try:
            assert isinstance(await committer.commit(batch), Committed)
        finally:
            commit_statement.statement.cache_clear()
