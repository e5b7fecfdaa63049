"""What holds of every workflow and every order of events, looked for by chance and shrunk to the smallest example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.adapters.wire.history import decode_events, encode_events
from services.adapters.wire.snapshots import encode_snapshot
from services.core import inputs
from services.core.definition.model import Join
from services.core.effects import CancelTask, CloseExecution, DispatchTask
from services.core.errors import NodeError
from services.core.events import (
    AttemptReturned,
    CancelRequested,
    EdgeOutcome,
    ExecutionEnded,
    NodeScheduled,
    NodeSkipped,
)
from services.core.graph import CompiledNode
from services.core.machine import Decision, Verdict, apply
from services.core.machine.bindings import task_bindings
from services.core.machine.timers import next_wake
from services.core.state import ExecutionState
from services.core.states import ACTIVE, OPEN, NodeStatus
from services.core.units import SECOND
from services.core.views import metrics, node_runs, progress
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
        self.counters_are_right()
        self.all_ways_lead_here()
        self.edges_fit_their_ends()
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

    def counters_are_right(self) -> None:
        state = self.machine.state
        statuses = Counter(node.status for node in state.nodes)
        if state.status.final:
            assert state.open == state.active == 0
        assert state.open == sum(statuses[s] for s in OPEN)
        assert state.active == sum(statuses[s] for s in ACTIVE)
        assert state.finished == sum(count for status, count in statuses.items() if status.final)
        workflow = state.workflow
        assert not workflow.max_parallel or state.active <= workflow.max_parallel
        assert not workflow.sequential or state.open <= 1

    def all_ways_lead_here(self) -> None:
        here = encode_snapshot(self.machine.state)
        assert encode_snapshot(self.machine.replayed()) == here
        assert encode_snapshot(self.machine.restored(len(self.machine.commits) // 2)) == here
        assert encode_snapshot(self.machine.restored(len(self.machine.commits))) == here

    def edges_fit_their_ends(self) -> None:
        for edge, outcome in zip(self.machine.workflow.edges, self.machine.state.edges, strict=True):
            check_edge(self.machine.state, edge.index, outcome)
        for compiled in self.machine.workflow.nodes:
            check_join(self.machine, compiled)

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
            self.counters_are_right()
        assert self.machine.state.status.final, "it ends"
        self.all_ways_lead_here()
        self.edges_fit_their_ends()
        ends = [event for _, event in self.machine.events() if isinstance(event, ExecutionEnded)]
        assert len(ends) == 1
        self.the_end_fits()
        assert all(node.status.final for node in self.machine.state.nodes)
        for happened in (inputs.Begin(), inputs.TimersDue(), inputs.Cancel("late", "user", True)):
            self.nothing(happened)

    def the_end_fits(self) -> None:
        """A success that no `end` declared had nothing left to run; who cancels has the end."""
        state = self.machine.new_state()
        *events, (_, ended) = self.machine.events()
        for at, event in events:
            apply(state, event, at)
        assert isinstance(ended, ExecutionEnded)
        cut_short = any(
            state.nodes[compiled.index].status is NodeStatus.SUCCESS
            for compiled in self.machine.workflow.nodes
            if compiled.type == "end"
        )
        if ended.status == "success" and not cut_short:
            assert all(node.status.final for node in state.nodes)
            assert all(state.edges)
        cancelled = any(isinstance(event, CancelRequested) for _, event in events)
        assert (ended.status == "cancelled") == cancelled


def check_edge(state: ExecutionState, index: int, outcome: int) -> None:
    """An edge is resolved exactly when its source has ended, and as the source's end says."""
    edge = state.workflow.edges[index]
    source = state.nodes[edge.source]
    resolved = EdgeOutcome(outcome) if outcome else None
    match source.status:
        case NodeStatus.SUCCESS:
            assert resolved is not None
            if edge.port != source.port:
                assert resolved is EdgeOutcome.DEAD
            elif edge.when is None:
                assert resolved is EdgeOutcome.TAKEN
        case NodeStatus.SKIPPED:
            assert resolved is EdgeOutcome.DEAD
        case NodeStatus.FAILED | NodeStatus.TIMEOUT:
            if resolved is EdgeOutcome.TAKEN:
                assert edge.port == "out" if source.continued else edge.port in ("error", "timeout")
        case NodeStatus.CANCELLED:
            # Those that the execution's end cancelled have edges that nobody needs.
            assert resolved is EdgeOutcome.DEAD or (resolved is None and state.status.final)
        case _:
            assert resolved is None


def check_join(machine: Machine, compiled: CompiledNode) -> None:
    """A node that began had a join that says run; one that was skipped without a word had one that says skip."""
    state = machine.state
    status = state.nodes[compiled.index].status
    outcomes = [state.edges[edge] for edge in compiled.incoming]
    taken, total = outcomes.count(EdgeOutcome.TAKEN), len(outcomes)
    dead = total - taken - outcomes.count(0)
    if not total or state.nodes[compiled.index].edge_error:
        return
    runs, skips = {
        Join.ALL_DONE: (taken > 0 and taken + dead == total, dead == total),
        Join.ALL_TAKEN: (taken == total, dead > 0),
        Join.ANY: (taken > 0, dead == total),
        Join.QUORUM: (taken >= compiled.quorum, total - dead < compiled.quorum),
    }[compiled.join]
    said = any(
        isinstance(event, NodeSkipped) and event.node == compiled.index for _, event in machine.events()
    )
    match status:
        case NodeStatus.PENDING:
            assert not skips
        case NodeStatus.SKIPPED:
            assert runs if said else skips
        case NodeStatus.CANCELLED:
            pass
        case _:
            assert runs


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(plain=definitions(), seed=st.integers(0, 2**32))
def test_any_execution(plain: dict[str, Any], seed: int) -> None:
    Walk(plain, Random(seed)).walk()
