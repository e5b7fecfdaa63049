"""What holds of an execution at any time, and of its end."""

from __future__ import annotations

from collections import Counter

from services.adapters.wire.snapshots import encode_snapshot
from services.core.definition.model import Join
from services.core.events import CancelRequested, EdgeOutcome, ExecutionEnded, NodeSkipped
from services.core.graph import CompiledNode
from services.core.machine import apply
from services.core.state import ExecutionState
from services.core.states import ACTIVE, OPEN, NodeStatus
from tests.support.machine import Machine


def counters_are_right(state: ExecutionState) -> None:
    """What is counted in place is what counting again gives."""
    statuses = Counter(node.status for node in state.nodes)
    if state.status.final:
        assert state.open == state.active == 0
    assert state.open == sum(statuses[s] for s in OPEN)
    assert state.active == sum(statuses[s] for s in ACTIVE)
    assert state.finished == sum(count for status, count in statuses.items() if status.final)
    workflow = state.workflow
    assert not workflow.max_parallel or state.active <= workflow.max_parallel
    assert not workflow.sequential or state.open <= 1


def all_ways_lead_here(machine: Machine) -> None:
    """Replayed, or from any snapshot and the rest, the state is the same."""
    here = encode_snapshot(machine.state)
    assert encode_snapshot(machine.replayed()) == here
    assert encode_snapshot(machine.restored(len(machine.commits) // 2)) == here
    assert encode_snapshot(machine.restored(len(machine.commits))) == here


def edges_fit_their_ends(machine: Machine) -> None:
    """Each edge says what its source did, each node what its edges say."""
    for edge, outcome in zip(machine.workflow.edges, machine.state.edges, strict=True):
        check_edge(machine.state, edge.index, outcome)
    for compiled in machine.workflow.nodes:
        check_join(machine, compiled)


def the_end_fits(machine: Machine) -> None:
    """A success that no `end` declared had nothing left to run; who cancels has the end."""
    state = machine.new_state()
    *events, (_, ended) = machine.events()
    for at, event in events:
        apply(state, event, at)
    assert isinstance(ended, ExecutionEnded)
    cut_short = any(
        state.nodes[compiled.index].status is NodeStatus.SUCCESS
        for compiled in machine.workflow.nodes
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
