"""Commit, then act: what leaves the writer, when, and what survives a commit that failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.core.machine import Decision, decide
from services.core.ports import Fenced, NeverCommitted, Refused, RolledBack
from services.scheduler.deciding import Decider
from services.scheduler.items import AskReply, Item, ResultReply
from tests.support.scheduling import RUNNER, Rig, execution

ONE = {"name": "one", "nodes": [{"id": "a", "type": "work"}], "output": {"a": "${ nodes.a.output }"}}
CHAIN = {
    "name": "chain",
    "nodes": [{"id": "a", "type": "work"}, {"id": "b", "type": "work"}],
    "edges": [{"source": "a", "target": "b"}],
}


async def test_a_task_leaves_after_its_commit_and_not_before() -> None:
    async with Rig(ONE) as rig:
        rig.hold()
        await rig.start(1)
        await rig.reached.wait()
        assert rig.publications.tasks == []
        rig.release()
        await rig.settle()
        assert [task.node_id for task in rig.publications.tasks] == ["a"]


async def test_no_verdict_overtakes_its_ground() -> None:
    """The doubled result arrives while the first's commit is in flight: neither is answered before it is made."""
    async with Rig(ONE) as rig:
        first = await rig.start(1)
        await rig.settle()
        rig.hold()
        rig.succeed(first, 0, token=1)
        await rig.reached.wait()
        rig.succeed(first, 0, token=1)
        assert rig.verdicts().counted == rig.verdicts().stale == []
        commits = len(rig.store.commits)
        rig.release()
        await rig.settle()
        assert rig.verdicts().counted == [1]
        assert rig.verdicts().stale == [1]
        # The doubled one changed nothing, and still had a commit of its own.
        assert len(rig.store.commits) == commits + 2


async def test_mutant_a_doubled_result_answered_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mutant a verdict leaves that rests on a commit which then never was: the test above would fail."""

    def answer_at_once(item: Item, change: Any, decision: Decision, granted: bool) -> None:
        if isinstance(item.reply, ResultReply):
            rig.sent.append((f"wc.runner.{RUNNER}.verdict", b"\x0a\x01\x01"))

    monkeypatch.setattr(Decider, "_answer", staticmethod(answer_at_once))
    async with Rig(ONE) as rig:
        first = await rig.start(1)
        await rig.settle()
        rig.hold()
        rig.outcomes = [NeverCommitted()]
        rig.succeed(first, 0, token=1)
        await rig.reached.wait()
        assert rig.verdicts().counted == [1]
        assert first not in rig.store.finished
        rig.release()
        await rig.settle()


async def test_a_commit_that_never_was_is_decided_again_from_rows() -> None:
    async with Rig(CHAIN) as rig:
        first = await rig.start(1)
        await rig.settle()
        rig.outcomes = [NeverCommitted()]
        rig.succeed(first, 0, token=1, output=b'"x"')
        await rig.settle()
        assert rig.verdicts().counted == [1]
        assert [task.node_id for task in rig.publications.tasks] == ["a", "b"]
        numbers = sorted(number for _, number in rig.store.commits)
        assert numbers == [1, 3], "the number of the commit that never was is void, and never used again"


async def test_a_rolled_back_commit_goes_again_under_its_number() -> None:
    async with Rig(ONE) as rig:
        rig.outcomes = [RolledBack("40001", "serialization"), RolledBack("53300", "too many connections")]
        first = await rig.start(1)
        await rig.settle()
        assert sorted(rig.store.commits) == [(1, 1)]
        assert [task.execution_id for task in rig.publications.tasks] == [first]


async def test_a_fenced_writer_lets_nothing_out_and_forgets() -> None:
    async with Rig(ONE) as rig:
        first = await rig.start(1)
        await rig.settle()
        rig.outcomes = [Fenced("commits_pkey")]
        rig.succeed(first, 0, token=1)
        await rig.settle()
        assert rig.fences == ["commits_pkey"]
        assert rig.verdicts().counted == rig.verdicts().stale == []
        assert rig.live == {}
        rig.succeed(first, 0, token=2)
        await rig.settle()
        assert rig.verdicts().counted == []


async def test_the_fence_stops_a_second_writer_of_the_same_execution() -> None:
    async with Rig(ONE) as a, Rig(ONE, a.store, session=2) as b:
        first = await a.start(1)
        await a.settle()
        a.succeed(first, 0, token=1)
        b.succeed(first, 0, token=2)
        await a.settle()
        await b.settle()
        # One of them counted it; the other was fenced, or found the execution ended.
        assert a.verdicts().counted == [1]
        assert b.verdicts().counted == []
        assert len([row for row in a.store.history.values() if row.sequence > 1]) == 1


async def test_the_culprit_of_refused_data_is_found_by_halving_and_fails_alone() -> None:
    async with Rig(ONE) as rig:
        culprit = execution(3)

        async def refuse(batch: Any) -> Any:
            hit = any(row.execution_id == culprit and b"poison" in row.events for row in batch.history)
            return Refused("22021", "invalid byte sequence") if hit else None

        rig.commits.gate = refuse
        ids = [await rig.start(number) for number in range(1, 9)]
        await rig.settle()
        for token, execution_id in enumerate(ids):
            rig.succeed(execution_id, 0, token, b'"poison"' if execution_id == culprit else b'"fine"')
        await rig.settle()
        statuses = {i: finished.status for i, finished in rig.store.finished.items()}
        assert statuses.pop(culprit) == "failed"
        assert set(statuses.values()) == {"success"}
        assert len(statuses) == 7
        assert b"RESOURCE" in (rig.store.finished[culprit].error or b"")


async def test_an_exception_in_the_core_quarantines_that_execution_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = execution(2)

    def broken(state: Any, *rest: Any) -> Decision:
        if state.info.id == bad and state.sequence:
            raise RuntimeError("a bug")
        return decide(state, *rest)

    monkeypatch.setattr("services.scheduler.deciding.decide", broken)
    async with Rig(ONE) as rig:
        ids = [await rig.start(number) for number in (1, 2, 3)]
        await rig.settle()
        for token, execution_id in enumerate(ids):
            rig.succeed(execution_id, 0, token)
        await rig.settle()
        assert set(rig.store.finished) == {ids[0], ids[2]}
        assert b"a bug" in (rig.store.open[bad].quarantine or b"")
        assert rig.store.open[bad].asleep
        assert sorted(rig.verdicts().counted) == [0, 2]


async def test_an_attempt_is_granted_to_one_asker_only() -> None:
    async with Rig(ONE) as rig:
        first = await rig.start(1)
        await rig.settle()
        rig.ask(first, AskReply("runner-a", 1, 0, 1))
        rig.ask(first, AskReply("runner-b", 2, 0, 1))
        await rig.settle()
        rig.ask(first, AskReply("runner-a", 1, 0, 1))
        rig.ask(first, AskReply("runner-b", 3, 0, 2))
        await rig.settle()
        assert rig.answers().run == [1, 1]
        assert rig.answers().drop == [2, 3]


async def test_a_result_of_an_execution_that_has_ended_is_stale_after_a_commit() -> None:
    async with Rig(ONE) as rig:
        first = await rig.start(1)
        await rig.settle()
        rig.succeed(first, 0, token=1)
        await rig.settle()
        commits = len(rig.store.commits)
        rig.succeed(first, 0, token=1)
        await rig.settle()
        assert rig.verdicts().stale == [1]
        assert len(rig.store.commits) == commits + 1


async def test_what_arrives_during_a_commit_goes_into_the_next_one_together() -> None:
    async with Rig(ONE) as rig:
        rig.hold()
        await rig.start(1)
        await rig.reached.wait()
        for number in range(2, 50):
            await rig.start(number)
        rig.release()
        await rig.settle()
        assert len(rig.store.commits) == 2
        assert len(rig.publications.tasks) == 49


async def test_a_batch_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.scheduler.writer.BATCH_BYTES_MAX", 1000)
    async with Rig(ONE) as rig:
        ids = [await rig.start(number) for number in range(1, 9)]
        await rig.settle()
        rig.hold()
        rig.succeed(ids[0], 0, token=0)
        await rig.reached.wait()
        before = len(rig.store.commits)
        for token, execution_id in enumerate(ids[1:], 1):
            rig.succeed(execution_id, 0, token, b'"' + b"x" * 600 + b'"')
        rig.release()
        await rig.settle()
        assert len(rig.store.finished) == 8
        # The one that was held, then two results of 600 bytes a commit.
        assert len(rig.store.commits) - before == 1 + 4


async def test_a_shut_writer_lets_the_batch_in_flight_go_silent() -> None:
    async with Rig(ONE) as rig:
        rig.hold()
        await rig.start(1)
        await rig.reached.wait()
        rig.writer.shut()
        rig.release()
        await asyncio.wait_for(rig.writer.until_idle(), 10)
        assert rig.publications.tasks == []
