"""What an event changed: also the nodes that follow from it without an event of their own.

`apply` collapses dead paths and cancels what a join no longer needs; such nodes carry the event's sequence as
the one they ended at, and they are found along the edges, so that the cost is that of the change, not of the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.errors import NodeError
from services.core.events import Event
from services.core.state import ExecutionState
from services.core.states import NodeStatus


@dataclass(frozen=True, slots=True)
class Change:
    """A node as an event left it. `until` 0: nothing bounds its wait."""

    sequence: int
    at: int
    node_id: str
    status: NodeStatus
    attempt: int
    error: NodeError | None
    waiting_for: str
    until: int
    port: str
    runner_id: str


def changes_of(state: ExecutionState, event: Event, at: int) -> list[Change]:
    """Changes of the event that was applied last, its own node first."""
    node = getattr(event, "node", None)
    if node is None:
        sequence = state.sequence
        changed = [index for index, run in enumerate(state.nodes) if run.ended_sequence == sequence]
    else:
        changed = [node, *_collapsed(state, node)]
    return [_change(state, index, at) for index in changed]


def _collapsed(state: ExecutionState, node: int) -> list[int]:
    """Nodes that were skipped or cancelled because of `node`'s end, in the order of the walk."""
    nodes, workflow, sequence = state.nodes, state.workflow, state.sequence
    if nodes[node].ended_sequence != sequence:
        return []
    found: list[int] = []
    seen, waiting = {node}, [node]
    while waiting:
        for edge in workflow.nodes[waiting.pop()].outgoing:
            target = workflow.edges[edge].target
            for candidate in (target, *workflow.nodes[target].cancel_set):
                if candidate not in seen and nodes[candidate].ended_sequence == sequence:
                    seen.add(candidate)
                    found.append(candidate)
                    waiting.append(candidate)
    return found


def _change(state: ExecutionState, index: int, at: int) -> Change:
    node = state.nodes[index]
    status = node.status
    waits = status in (NodeStatus.WAITING, NodeStatus.RETRYING)
    waiting_for = node.waiting_for or "timer" if waits else "runner" if status is NodeStatus.SCHEDULED else ""
    return Change(
        state.sequence,
        at,
        state.workflow.nodes[index].id,
        status,
        node.attempt,
        node.error,
        waiting_for,
        node.due_at if waits else 0,
        node.port if status is NodeStatus.SUCCESS else "",
        node.runner_id,
    )
