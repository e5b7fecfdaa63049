"""The fenced commit: everything it keeps, who is fenced, and what comes of each kind of failure."""

from __future__ import annotations

import dataclasses

import pytest

from services.adapters.postgres.commit import Committer, application_name
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.sessions import SessionStore
from services.core.ports import CommitBatch, Committed, Fenced, Refused
from services.core.records import NewCommand, SnapshotRow, Verdict
from tests.adapters.postgres.rows import finished, history, insert, new_execution, new_id


def every_part(session: int, now: int, ending: bytes, sleeping: bytes, waking: bytes) -> CommitBatch:
    """Commit 2 of a session: events of three executions, of which one ends and two are put down."""
    return CommitBatch(
        session,
        2,
        1,
        digest=b"digest",
        history=[history(execution_id, 1, now, 2) for execution_id in (sleeping, ending, waking)],
        ends=[finished(ending, now, output=b"1", snapshot=b"last")],
        snapshots=[
            SnapshotRow(sleeping, 2, b"snap", wake_at=now - 1),
            SnapshotRow(waking, 2, b"snap", wake_at=now + 10**9),
        ],
    )


async def test_commit_keeps_every_part(
    database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    other = (await sessions.open("b", "b:1", 1)).session
    ending, sleeping, waking, held = (new_execution(now, shard=7, labels={"k": "v"}) for _ in range(4))
    child = new_execution(now, shard=9, parent_execution_id=ending.execution_id)
    await insert(pool, ending, sleeping, waking, held)
    store = ExecutionStore(pool)
    command = NewCommand(new_id(now), sleeping.execution_id, "acme", "r1", "cancel", b"{}", now, "ann")
    async with Committer(database_url, session) as committer:
        first = await committer.commit(CommitBatch(session, 1, 1, take_overs=range(256), commands=[command]))
        assert isinstance(first, Committed)
        assert sorted(first.taken) == list(range(256))
        batch = dataclasses.replace(
            every_part(session, now, ending.execution_id, sleeping.execution_id, waking.execution_id),
            quarantines=[(held.execution_id, b"boom\x00")],
            verdicts=[Verdict(command.command_id, "accepted", b"ok")],
            starts=[child],
            hand_overs=[(3, other), (4, other + 1)],
        )
        second = await committer.commit(batch)
        assert isinstance(second, Committed)
        assert second.handed_over == (3,)
        assert second.at >= first.at
        [due] = await store.due([7], 10)
        assert (due.start, due.sequence, due.snapshot) == (sleeping, 2, b"snap")
        [quarantined] = await store.quarantined([7], 10)
        assert quarantined.quarantine == b"boom\x00"
        wakes, quarantines = [waking.execution_id], [(held.execution_id, None)]
        third = CommitBatch(session, 3, 1, wakes=wakes, quarantines=quarantines)
        assert isinstance(await committer.commit(third), Committed)
    awake = await store.awake([7, 9], 10)
    assert {row.start.execution_id for row in awake} == {
        child.execution_id, waking.execution_id, held.execution_id,
    }  # fmt: skip
    assert (await store.by_ids([ending.execution_id])) == []
    [row] = await pool.fetch("select status, output, labels, input, created_at, sequence from executions")
    assert row == ("success", b"1", {"k": "v"}, ending.input, now, 2)
    assert (await store.unanswered_commands(range(256), 10)) == []
    assert (await sessions.shard_map())[3] == other
    rows = await store.history_after([(sleeping.execution_id, 0), (waking.execution_id, 2)])
    assert [(r.execution_id, r.last_sequence) for r in rows] == [(sleeping.execution_id, 2)]
    assert (await store.rows_with([(ending.execution_id, 2)]))[0].sequence == 1
    commits = await pool.fetch("select session, number, kind, digest from commits order by number")
    assert commits == [(session, 1, 0, b""), (session, 2, 0, b"digest"), (session, 3, 0, b"")]


async def test_closed_session_is_fenced(
    database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    execution = new_execution(now)
    await insert(pool, execution)
    async with Committer(database_url, session) as committer:
        assert isinstance(await committer.commit(CommitBatch(session, 1, 1)), Committed)
        await sessions.close_expired(session)
        batch = CommitBatch(session, 2, 1, history=[history(execution.execution_id, 1, now)])
        # Its backend is gone, so the outcome is unknown first; the closing row then decides.
        assert await committer.commit(batch) == Fenced("commits_pkey")
        assert await committer.commit(batch) == Fenced("commits_pkey")
    assert await ExecutionStore(pool).history_after([(execution.execution_id, 0)]) == []


async def test_second_writer_of_a_history_is_fenced(
    database_url: str, pool: Pool, sessions: SessionStore, now: int
) -> None:
    one, two = [(await sessions.open(name, "x:1", 1)).session for name in "ab"]
    execution_id = new_id(now)
    async with Committer(database_url, one) as first, Committer(database_url, two) as second:
        row = history(execution_id, 1, now)
        assert isinstance(await first.commit(CommitBatch(one, 1, 1, history=[row])), Committed)
        outcome = await second.commit(CommitBatch(two, 1, 1, history=[row]))
    assert isinstance(outcome, Fenced)
    assert outcome.constraint.startswith("execution_history_")


@pytest.mark.parametrize("what", ["no partition", "bad text", "too large"])
async def test_bad_data_is_refused_and_keeps_the_number(
    database_url: str, pool: Pool, sessions: SessionStore, now: int, what: str
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    execution = new_execution(now)
    await insert(pool, execution)
    bad = {
        "no partition": {"history": [history(new_id(10**15), 1, now)]},
        "bad text": {"ends": [finished(execution.execution_id, now, status_reason="a\x00b")]},
        "too large": {"ends": [finished(execution.execution_id, now, nodes_executed=2**31)]},
    }[what]
    async with Committer(database_url, session) as committer:
        outcome = await committer.commit(CommitBatch(session, 1, 1, **bad))  # type: ignore[arg-type]
        assert isinstance(outcome, Refused), outcome
        good = CommitBatch(session, 1, 1, history=[history(execution.execution_id, 1, now)])
        assert isinstance(await committer.commit(good), Committed)


async def test_commit_connection_is_named_after_its_session(
    database_url: str, pool: Pool, sessions: SessionStore
) -> None:
    session = (await sessions.open("a", "a:1", 1)).session
    async with Committer(database_url, session) as committer:
        await committer.commit(CommitBatch(session, 1, 1))
        rows = await pool.fetch(
            "select 1 from pg_stat_activity where application_name = %s", (application_name(session),)
        )
        assert len(rows) == 1
