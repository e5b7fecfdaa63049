"""What holds of every workflow and every order of events, looked for by chance and shrunk to the smallest example."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.adapters.wire.history import decode_events, encode_events
from services.adapters.wire.snapshots import encode_snapshot
from services.core import inputs
from services.core.effects import CancelTask, CloseExecution, DispatchTask
from services.core.errors import NodeError
from services.core.events import (
    AttemptReturned,
    ExecutionEnded,
    NodeScheduled,
)
from services.core.machine import Decision, Verdict
from services.core.machine.bindings import task_bindings
from services.core.machine.timers import next_wake
from services.core.states import ACTIVE, OPEN, NodeStatus
from services.core.units import SECOND
from services.core.views import metrics, node_runs, progress
from tests.core.invariants import all_ways_lead_here, counters_are_right, edges_fit_their_ends, the_end_fits
from tests.core.workflows import ERROR_TYPES, definitions
from tests.support.machine import Machine, compile_plain

# A node may be lost twice and retried twice, and every node may do so; beyond this nothing moves.
STEPS_MAX = 400
# Words told to an execution before it is led to its end.
STEPS = 60


class Walk:
    """One execution that is told anything in any order, checked after each word."""

    def __init__(self, plain: dict[str, Any], chance: Random) -> None:
        self.machine = Machine(compile_plain(plain), b'{"n":3}')
        self.chance = chance
        self.percent = 0
        self.last: inputs.Input = inputs.TimersDue()

    def walk(self) -> None:
        """Many steps by chance, then straight to the end."""
        steps = list(self.WEIGHTS)
        weights = list(self.WEIGHTS.values())
        if self.chance.random() < 0.8:
            self.tell(inputs.Begin())
        for step in self.chance.choices(steps, weights, k=STEPS):
            step(self)
            self.check()
        self.to_the_end()

    def check(self) -> None:
        """Everything that always holds."""
        counters_are_right(self.machine.state)
        all_ways_lead_here(self.machine)
        edges_fit_their_ends(self.machine)
        self.readers_see_it()

    # What happens.

    def begin(self) -> None:
        self.tell(inputs.Begin())

    def start(self) -> None:
        if node := self.active():
            self.tell(inputs.TaskStarted(*node, self.chance.choice(["r1", "r2"]), self.machine.now))

    def succeed(self) -> None:
        if node := self.active():
            now = self.machine.now
            output = self.chance.choice([b"", b"1", b"1", b"2", b'{"x":true}', b"{oops"])
            self.tell(inputs.TaskSucceeded(*node, output, "r1", now, now, 0.25, 100))

    def fail(self) -> None:
        if node := self.active():
            kind = self.chance.choice([*ERROR_TYPES, *ERROR_TYPES, "CANCELLED"])
            timeout = self.chance.choice(["start_to_close", "heartbeat", ""]) if kind == "TIMEOUT" else ""
            error = NodeError(kind, "it broke", b"[1", self.chance.random() < 0.8, timeout)
            now = self.machine.now
            self.tell(inputs.TaskFailed(*node, error, "r1", now, now), self.chance.random())

    def lose(self) -> None:
        if node := self.active():
            self.tell(inputs.TaskLost(*node, self.chance.choice(["", "r1"])))

    def give_back(self) -> None:
        if node := self.active():
            self.tell(inputs.TaskReturned(*node, self.chance.choice(["r1", "r2"])))

    def refuse(self) -> None:
        if node := self.active():
            self.tell(inputs.TaskRefused(*node, NodeError("RESOURCE", "too large")))

    def time_passes(self) -> None:
        self.machine.now += self.chance.choice([0, 1, 1, 3, 10]) * SECOND
        self.tell(inputs.TimersDue())

    def next_timer(self) -> None:
        if wake := next_wake(self.machine.state):
            self.machine.now = max(self.machine.now, wake)
            self.tell(inputs.TimersDue())

    def cancel(self) -> None:
        self.tell(inputs.Cancel("enough", "user", self.chance.random() < 0.3))

    def takeover(self) -> None:
        self.machine.state = self.machine.restored(self.chance.randint(0, len(self.machine.commits)))

    def doubled(self) -> None:
        if not isinstance(self.last, inputs.TimersDue):
            self.nothing(self.last)

    def foreign(self) -> None:
        node, nodes = self.chance.randint(-1, 10), self.machine.state.nodes
        now = nodes[node].attempt if 0 <= node < len(nodes) else 1
        attempt = now + self.chance.choice([-1, 1, 7])
        error = NodeError("NETWORK", "it broke")
        strangers: list[inputs.Input] = [
            inputs.TaskStarted(node, attempt, "r9", 5),
            inputs.TaskSucceeded(node, attempt, b"9", "r9", 5, 6),
            inputs.TaskFailed(node, attempt, error, "r9", 5, 6),
            inputs.TaskLost(node, attempt, "r9"),
            inputs.TaskReturned(node, attempt, "r9"),
            inputs.TaskRefused(node, attempt, error),
        ]
        assert self.nothing(self.chance.choice(strangers)).verdict is Verdict.STALE

    WEIGHTS: ClassVar[dict[Callable[[Walk], None], float]] = {
        begin: 1,
        start: 4,
        succeed: 4,
        fail: 5,
        lose: 1,
        give_back: 1.5,
        refuse: 0.1,
        time_passes: 3,
        next_timer: 2,
        cancel: 0.2,
        takeover: 1,
        doubled: 2,
        foreign: 1,
    }

    # What always holds.

    def tell(self, happened: inputs.Input, draw: float = 0.5) -> Decision:
        state = self.machine.state
        before = [(node.status, node.attempt) for node in state.nodes]
        edges = bytes(state.edges)
        was_final = state.status.final
        not_before = {i: n.due_at for i, n in enumerate(state.nodes) if n.status is NodeStatus.RETRYING}
        decision = self.machine.decide(happened, draw)
        self.last = happened
        if was_final:
            assert not decision.events
            assert not decision.effects
        for old, new in zip(edges, state.edges, strict=True):
            assert old in (0, new), "an edge resolves once"
        assert decode_events(encode_events(decision.events)) == decision.events
        self.effects_fit(decision, happened, before)
        for event in decision.events:
            if isinstance(event, NodeScheduled):
                assert not_before.pop(event.node, 0) <= self.machine.now, "no retry before its time"
        if isinstance(happened, inputs.TimersDue) and (wake := next_wake(state)) is not None:
            assert wake > self.machine.now
        return decision

    def nothing(self, happened: inputs.Input) -> Decision:
        here = encode_snapshot(self.machine.state)
        decision = self.machine.decide(happened)
        assert not decision.events
        assert not decision.effects
        assert encode_snapshot(self.machine.state) == here
        return decision

    def active(self, which: int | None = None) -> tuple[int, int] | None:
        found = [(i, n.attempt) for i, n in enumerate(self.machine.state.nodes) if n.status in ACTIVE]
        if not found:
            return None
        return found[0] if which == 0 else self.chance.choice(found)

    def effects_fit(
        self, decision: Decision, happened: inputs.Input, before: list[tuple[NodeStatus, int]]
    ) -> None:
        """Every attempt that is scheduled is dispatched; one that nobody needs any more is cancelled, unless its runner
        has just said so itself; the end closes."""
        nodes = self.machine.state.nodes
        dispatched = [(e.node, e.attempt) for e in decision.effects if isinstance(e, DispatchTask)]
        waits = (NodeScheduled, AttemptReturned)
        scheduled = [(e.node, e.attempt) for e in decision.events if isinstance(e, waits)]
        assert dispatched == scheduled
        cancelled = {(e.node, e.attempt) for e in decision.effects if isinstance(e, CancelTask)}
        about = (getattr(happened, "node", None), getattr(happened, "attempt", None))
        for index, (status, attempt) in enumerate(before):
            over = nodes[index].status not in ACTIVE or nodes[index].attempt != attempt
            if status in ACTIVE and over and (index, attempt) != about:
                assert (index, attempt) in cancelled
        for index, attempt in scheduled:
            assert nodes[index].status in ACTIVE or (index, attempt) in cancelled
        ended = [event for event in decision.events if isinstance(event, ExecutionEnded)]
        closed = [effect for effect in decision.effects if isinstance(effect, CloseExecution)]
        assert len(ended) == len(closed) <= 1
        assert not ended or decision.events[-1] is ended[0]

    def readers_see_it(self) -> None:
        state = self.machine.state
        runs = node_runs(state)
        for run in runs:
            numbers = [attempt.attempt for attempt in run.attempts]
            assert numbers == list(range(1, run.attempt + 1))
            assert (run.wait is not None) or run.status not in OPEN - {NodeStatus.RUNNING}
            if run.status in ACTIVE:
                assert task_bindings(state, run.index, self.machine.now).startswith(b"{")
        shown = progress(state)
        assert shown.percent >= self.percent
        assert (shown.percent == 100) == state.status.final
        self.percent = shown.percent
        assert metrics(state).total_nodes == len(runs)

    def to_the_end(self) -> None:
        """Whatever happened before, it ends, once, and then nothing changes any more."""
        self.tell(inputs.Begin())
        for _ in range(STEPS_MAX):
            if self.machine.state.status.final:
                break
            if node := self.active(0):
                now = self.machine.now
                self.tell(inputs.TaskSucceeded(*node, b"1", "r1", now, now))
            else:
                wake = next_wake(self.machine.state)
                assert wake is not None, "an open execution has something to wait for"
                self.machine.now = max(self.machine.now, wake)
                self.tell(inputs.TimersDue())
            counters_are_right(self.machine.state)
        assert self.machine.state.status.final, "it ends"
        all_ways_lead_here(self.machine)
        edges_fit_their_ends(self.machine)
        ends = [event for _, event in self.machine.events() if isinstance(event, ExecutionEnded)]
        assert len(ends) == 1
        the_end_fits(self.machine)
        assert all(node.status.final for node in self.machine.state.nodes)
        for happened in (inputs.Begin(), inputs.TimersDue(), inputs.Cancel("late", "user", True)):
            self.nothing(happened)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(plain=definitions(), seed=st.integers(0, 2**32))
def test_any_execution(plain: dict[str, Any], seed: int) -> None:
    Walk(plain, Random(seed)).walk()
