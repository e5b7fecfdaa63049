"""The accounts of the dispatch window: whatever happens, what is counted as out is what is out, and at the end nothing."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from services.core.errors import NodeError
from services.core.inputs import Cancel, TaskFailed, TaskLost, TaskReturned, TaskStarted, TimersDue
from services.core.ports import NeverCommitted, RolledBack
from services.core.tasks import AttemptRef, Beat, HeldTask
from services.core.units import SECOND
from services.scheduler.items import AskReply, HeldReply, Item, ResultReply
from services.scheduler.runners import Runners
from tests.support.scheduling import RUNNER, Rig, execution

QUEUES = ("default", "other")
WORK: dict[str, Any] = {
    "name": "fan",
    "nodes": [
        {"id": "a", "type": "work", "retry_policy": {"max_attempts": 3, "base_delay": "1s"}},
        {"id": "b", "type": "work", "task_queue": "other", "on_error": "CONTINUE"},
        {"id": "c", "type": "work", "timeouts": {"schedule_to_close": "40s"}, "on_error": "CONTINUE"},
        {"id": "d", "type": "work"},
    ],
    "edges": [{"source": source, "target": "d"} for source in "abc"],
}
EXECUTIONS = 40
STEPS = 200


class Walk:
    """Random things that happen to executions, and what must hold after each."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.draw = random.Random(seed)
        self.runners = Runners(
            rig.clock, rig.live, rig.dispatcher, rig.actor, set(range(256)), rig.put_item, lambda: True
        )

    def happen(self) -> None:
        """One thing, about an attempt that is out or one that never was."""
        rig, draw, now = self.rig, self.draw, self.rig.clock.now()
        if draw.random() < 0.05:
            failed = NeverCommitted() if draw.random() < 0.5 else RolledBack("40001", "")
            rig.outcomes.append(failed)
        refs = [AttemptRef(task.execution_id, task.node, task.attempt) for task in rig.publications.tasks]
        if not refs:
            return
        ref = draw.choice(refs[-60:])
        runner = draw.choice((RUNNER, "runner-b"))
        node, attempt = ref.node, ref.attempt
        error = NodeError(draw.choice(("NODE_EXECUTION", "VALIDATION")), "no", node=node)
        reply = ResultReply(runner, 1)
        happening: list[tuple[Any, Any]] = [
            (TaskStarted(node, attempt, runner, now), HeldReply(runner, node, attempt)),
            (TaskFailed(node, attempt, error, runner, now, now), reply),
            (TaskReturned(node, attempt, runner), reply),
            (TaskLost(node, attempt, runner), None),
            (None, AskReply(runner, 1, node, attempt)),
            (TimersDue(), None),
        ]
        if draw.random() < 0.02:
            happening = [(Cancel("", "user", draw.random() < 0.5), None)]
        if draw.random() < 0.4:
            rig.succeed(ref.execution_id, node, 1, attempt=attempt)
        elif draw.random() < 0.2:
            self.runners.hear(
                Beat(runner, True, [HeldTask(*_key(ref), now, b"")], 4, 1, QUEUES, (), False, "")
            )
        else:
            happened, answer = draw.choice(happening)
            rig.put_item(Item(ref.execution_id, happened, answer))

    def balanced(self) -> None:
        """What the windows count is what is in flight, and a waiting attempt is in a backlog."""
        out: Counter[str] = Counter()
        waiting = 0
        for live in self.rig.live.values():
            out.update(flight.queue for flight in live.in_flight.values() if flight.queue)
            waiting += live.waiting
            for node, flight in live.in_flight.items():
                assert flight.attempt == live.state.nodes[node].attempt
        depths = self.rig.dispatcher.depths()
        assert {queue: out[queue] for queue in depths} == {queue: held for queue, (_, held) in depths.items()}
        assert waiting <= sum(size for size, _ in depths.values())


def _key(ref: AttemptRef) -> tuple[bytes, int, int]:
    return ref.execution_id, ref.node, ref.attempt


@pytest.mark.parametrize("seed", range(4))
async def test_the_window_counts_what_is_out(seed: int) -> None:
    async with Rig(WORK) as rig:
        walk = Walk(rig, seed)
        for number in range(1, EXECUTIONS + 1):
            await rig.start(number)
        for step in range(STEPS):
            for _ in range(walk.draw.randrange(1, 8)):
                walk.happen()
            if step % 10 == 0:
                rig.clock.advance(SECOND)
                for execution_id in rig.wakes.due(rig.clock.now()):
                    rig.put_item(Item(execution_id, TimersDue()))
                for item in walk.runners.lost():
                    rig.put_item(item)
            await rig.settle()
            walk.balanced()
        rig.clock.advance(400 * SECOND)
        for number in range(1, EXECUTIONS + 1):
            rig.put_item(Item(execution(number), TimersDue()))
        await rig.settle()
        walk.balanced()
        assert not rig.live
        assert len(rig.store.finished) == EXECUTIONS
        assert all(out == 0 for _, out in rig.dispatcher.depths().values())
