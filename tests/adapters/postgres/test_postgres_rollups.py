"""Roll-ups are counted once, feeds have no holes, sweeps keep what fences."""

from __future__ import annotations

import asyncio

from services.adapters.postgres.commit import Committer
from services.adapters.postgres.feed import CommitFeed
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.rollups import RollupStore
from services.adapters.postgres.sessions import SessionStore
from services.adapters.postgres.sweeps import Sweeper
from services.core.ports import CommitBatch, Committed
from services.core.records import COMMIT_CLOSED
from services.core.rollups import ExecutionRollup, NodeRollup
from services.core.units import MINUTE
from tests.adapters.postgres.rows import finished, history, insert, new_execution


def joined(stored: bytes, new: bytes) -> bytes:
    """A merge whose result shows what was merged."""
    return stored + new


def execution_rollup(minute: int, count: int, sketch: bytes, organization: str = "acme") -> ExecutionRollup:
    """Successes of one workflow in a minute."""
    return ExecutionRollup(
        organization, minute, b"w" * 16, "api", "success", count, 10 * count, count, 0, sketch
    )


def node_rollup(minute: int, succeeded: int, sketch: bytes) -> NodeRollup:
    """Attempts of one node in a minute."""
    return NodeRollup(
        "acme", minute, b"w" * 16, "charge", "http", succeeded, 1, 0, 2, 0, 10, succeeded, 5, 7, sketch
    )


async def make_commits(url: str, session: int, numbers: range) -> None:
    """Commits that say their number."""
    async with Committer(url, session) as committer:
        for number in numbers:
            outcome = await committer.commit(CommitBatch(session, number, 1, digest=b"%d" % number))
            assert isinstance(outcome, Committed)


async def test_commits_are_applied_once(
    database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    one, two = [(await sessions.open(name, "x:1", 1)).session for name in "ab"]
    await make_commits(database_url, one, range(1, 6))
    await make_commits(database_url, two, range(1, 3))
    await sessions.close_own(two)
    store = RollupStore(pool, "monitor")
    minute = now // MINUTE * MINUTE
    total = 0
    while True:
        rows, moves = await store.next_commits(limit=2)
        if not rows:
            break
        made = [row for row in rows if row.digest]
        rollups = [execution_rollup(minute, len(made), b"s")] if made else []
        nodes = [node_rollup(minute, len(made), b"n")] if made else []
        # Two monitors read the same: one of them applies.
        results = await asyncio.gather(*(store.apply(moves, rollups, nodes, joined) for _ in range(3)))
        assert sorted(results) == [False, False, True]
        total += len(made)
    assert total == 7
    [row] = await store.executions("acme", minute, minute + 1)
    assert (row.count, row.duration_sum_us) == (7, 70)
    assert row.duration_max_us <= 4
    assert row.sketch == b"s" * len(row.sketch)
    [node] = await store.nodes("acme", minute, minute + 1, workflow_id=b"w" * 16)
    assert node.succeeded == 7
    assert await store.executions("acme", minute + 1, minute + MINUTE) == []
    assert await store.executions("other", minute, minute + 1) == []
    assert await store.executions("acme", minute, minute + 1, workflow_id=b"x" * 16) == []
    assert (await pool.fetch("select number from cursors where session = %s", (two,))) == [(3,)]


async def test_sweep_keeps_what_is_unread_last_or_closing(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    one, two = [(await sessions.open(name, "x:1", 1)).session for name in "ab"]
    await make_commits(database_url, one, range(1, 6))
    await make_commits(database_url, two, range(1, 4))
    await sessions.close_own(two)
    store, sweeper = RollupStore(pool, "monitor"), Sweeper(pool)
    assert await sweeper.commits(["monitor"], age_us=0) == 0
    rows, moves = await store.next_commits(limit=3)
    assert await store.apply(moves, [], [], joined)
    assert await sweeper.commits(["monitor", "other"], age_us=0) == 0
    assert await sweeper.commits(["monitor"]) == 0  # younger than a minute
    assert await sweeper.commits(["monitor"], limit=4, age_us=0) == 4
    assert await sweeper.commits(["monitor"], limit=4, age_us=0) == 2
    assert len(rows) == 6
    rows, moves = await store.next_commits(limit=10)
    assert [(row.session, row.number, row.kind) for row in sorted(rows, key=lambda r: (r.session, r.number))] == [
        (one, 4, 0), (one, 5, 0), (two, 4, COMMIT_CLOSED),
    ]  # fmt: skip
    assert await store.apply(moves, [], [], joined)
    assert await sweeper.commits(["monitor"], age_us=0) == 1
    left = await pool.fetch("select session, number, kind from commits order by session, number")
    assert left == [(one, 5, 0), (two, 4, 2)]
    # The closing row still comes right after the last commit, so it fences the number that would be next.
    await sessions.close_expired(one)
    assert await pool.fetch("select number, kind from commits where session = %s order by number", (one,)) == [
        (5, 0), (6, 2),
    ]  # fmt: skip
    # A reader that comes first after a sweep begins with what is there.
    late = RollupStore(pool, "late")
    rows, moves = await late.next_commits(limit=10)
    assert [(move.session, move.until) for move in moves] == [(one, 6), (two, 4)]
    assert await late.apply(moves, [], [], joined)


async def test_feed_and_histories(database_url: str, pool: Pool, sessions: SessionStore, now: int) -> None:
    feed = CommitFeed(pool)
    session = (await sessions.open("a", "a:1", 1)).session
    execution = new_execution(now)
    await insert(pool, execution)
    execution_id = execution.execution_id
    async with Committer(database_url, session) as committer:
        for number, (first, count) in enumerate([(1, 3), (4, 1), (5, 2)], start=1):
            rows = [history(execution_id, first, now, count)]
            await committer.commit(CommitBatch(session, number, 1, digest=b"d", history=rows))
        assert await feed.last_sequences([execution_id, bytes(16)]) == {execution_id: 6}

        async def sequences(after: int, limit: int = 10) -> list[int]:
            return [r.sequence for r in await feed.history("acme", execution_id, after=after, limit=limit)]

        assert await sequences(0) == [1, 4, 5]
        assert await sequences(1) == await sequences(2) == [1, 4, 5]
        assert await sequences(3) == [4, 5]
        assert await sequences(5) == [5]
        assert await sequences(6) == []
        assert await sequences(0, limit=2) == [1, 4]
        assert await feed.history("other", execution_id) == []
        await committer.commit(CommitBatch(session, 4, 1, ends=[finished(execution_id, now)]))
    assert await sequences(0) == [1, 4, 5]
    assert await feed.history("other", execution_id) == []


async def test_other_sweeps(database_url: str, pool: Pool, sessions: SessionStore, now: int) -> None:
    still_open, ended = new_execution(now), new_execution(now)
    await insert(pool, still_open, ended)
    session = (await sessions.open("a", "a:1", 1)).session
    async with Committer(database_url, session) as committer:
        await committer.commit(CommitBatch(session, 1, 1, ends=[finished(ended.execution_id, now)]))
    for key, execution in (("open", still_open), ("ended", ended)):
        await pool.fetch(
            "insert into idempotency_keys (organization_id, key, body_hash, execution_id, created_at)"
            " values ('acme', %s, '', %s::uuid, clock_timestamp() - interval '1 hour')",
            (key, execution.execution_id.hex()),
        )
    sweeper = Sweeper(pool)
    assert await sweeper.idempotency_keys() == 0
    assert await sweeper.idempotency_keys(age_us=0) == 1
    assert await pool.fetch("select key from idempotency_keys") == [("open",)]
    await pool.fetch("insert into insert_batches values (gen_random_uuid(), 0)")
    assert await sweeper.insert_batches() == 0
    assert await sweeper.insert_batches(age_us=0) == 1
