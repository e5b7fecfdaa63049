"""Edges resolve exactly once, joins are decided at the first moment their answer is certain, dead paths collapse.

Evaluates nothing: which edges are TAKEN was chosen by `decide` and stands in the events.
"""

from __future__ import annotations

from heapq import heappush

from services.core.definition.model import Join
from services.core.events import EdgeOutcome
from services.core.graph import CompiledNode
from services.core.state import ExecutionState, NodeState
from services.core.states import ACTIVE, OPEN, NodeStatus

TAKEN, DEAD, ERROR = EdgeOutcome.TAKEN, EdgeOutcome.DEAD, EdgeOutcome.ERROR


def resolve_edge(
    state: ExecutionState, edge_index: int, outcome: EdgeOutcome, at: int, message: str = ""
) -> None:
    """Resolve one edge, and everything that follows from it without a choice."""
    collapse = [(edge_index, outcome)]
    while collapse:
        index, outcome = collapse.pop()
        if state.edges[index]:
            continue
        state.edges[index] = outcome
        target = state.workflow.edges[index].target
        node, compiled = state.nodes[target], state.workflow.nodes[target]
        if outcome is TAKEN:
            node.taken += 1
        else:
            node.dead += 1
        if node.decided or node.status.final:
            continue
        if outcome is ERROR:
            node.edge_error = message or "the edge's `when` could not be evaluated"
            make_ready(state, target)
            continue
        runs = join_answer(compiled, node)
        if runs is None:
            continue
        if not runs:
            node.decided = True
            node.status = NodeStatus.SKIPPED
            node.ended_at = at
            node.ended_sequence = state.sequence
            state.finished += 1
            collapse.extend((edge, DEAD) for edge in compiled.outgoing)
            continue
        make_ready(state, target)
        for other in compiled.cancel_set:
            collapse.extend(drop_node(state, other, at))


def join_answer(compiled: CompiledNode, node: NodeState) -> bool | None:
    """True: run. False: skip. None: not certain yet."""
    total = len(compiled.incoming)
    match compiled.join:
        case Join.ALL_DONE:
            return node.taken > 0 if node.taken + node.dead == total else None
        case Join.ALL_TAKEN:
            return False if node.dead else (True if node.taken == total else None)
        case Join.ANY:
            return True if node.taken else (False if node.dead == total else None)
        case Join.QUORUM:
            if node.taken >= compiled.quorum:
                return True
            return False if total - node.dead < compiled.quorum else None


def make_ready(state: ExecutionState, index: int) -> None:
    """The node's join said run (or its edge failed): it waits for its turn. To fail takes no runner's slot."""
    compiled, node = state.workflow.nodes[index], state.nodes[index]
    node.decided = True
    local = compiled.local or node.edge_error
    heappush(state.ready_local if local else state.ready_tasks, (compiled.position, index))


def drop_node(state: ExecutionState, index: int, at: int) -> list[tuple[int, EdgeOutcome]]:
    """Cancel a node as a consequence of something else: whoever has its attempt must be told."""
    node = state.nodes[index]
    if node.status in ACTIVE:
        state.dropped.append((index, node.attempt))
    return cancel_node(state, index, at)


def cancel_node(state: ExecutionState, index: int, at: int) -> list[tuple[int, EdgeOutcome]]:
    """Cancel a node that has not ended; returns its outgoing edges, all DEAD."""
    node = state.nodes[index]
    if node.status.final:
        return []
    if node.status in OPEN:
        state.open -= 1
    if node.status in ACTIVE:
        state.active -= 1
    node.decided = True
    node.status = NodeStatus.CANCELLED
    node.ended_at = at
    node.ended_sequence = state.sequence
    state.finished += 1
    return [(edge, DEAD) for edge in state.workflow.nodes[index].outgoing]
