"""Ready nodes get their turn: bounded parallelism, `when`, and then the family that the node's type belongs to."""

from __future__ import annotations

from heapq import heappop

from services.core.effects import DispatchTask
from services.core.errors import EXPRESSION, ExpressionError, NodeError
from services.core.events import NodeScheduled, NodeSkipped
from services.core.machine import local
from services.core.machine.bindings import visible_vars
from services.core.machine.conditions import holds
from services.core.machine.deciding import Deciding
from services.core.machine.ending import cancelled_error, finish
from services.core.machine.failures import fail_node
from services.core.machine.timers import push_timers
from services.core.state import ExecutionState
from services.core.states import ExecutionStatus, NodeStatus


def run(deciding: Deciding) -> None:
    """Decide ready nodes until none is left or none may run; then end what can no longer go on."""
    state = deciding.state
    while not state.status.final and not state.grace_until:
        index = _next(state, deciding.now)
        if index is None:
            break
        if state.nodes[index].status is NodeStatus.RETRYING:
            schedule(deciding, index)
        else:
            decide_node(deciding, index)
    if state.status.final or state.status is ExecutionStatus.PENDING:
        return
    if state.grace_until:
        if state.active == 0:
            deciding.end("cancelled", error=cancelled_error(state))
    elif state.open == 0 and not state.ready_local and not state.ready_tasks:
        finish(deciding)


def _next(state: ExecutionState, now: int) -> int | None:
    """Pop the next node that may be decided: local ones first, tasks while there is room.

    SEQUENTIAL takes one node at a time, in topological order; an open node holds the turn.
    """
    local_heap, task_heap = state.ready_local, state.ready_tasks
    while local_heap and not _waits(state, local_heap, now):
        pass
    while task_heap and not _waits(state, task_heap, now):
        pass
    workflow = state.workflow
    if workflow.sequential:
        if state.open:
            return None
        heap = local_heap if local_heap and (not task_heap or local_heap[0] < task_heap[0]) else task_heap
        return heappop(heap)[1] if heap else None
    if local_heap:
        return heappop(local_heap)[1]
    if task_heap and not (workflow.max_parallel and state.active >= workflow.max_parallel):
        return heappop(task_heap)[1]
    return None


def _waits(state: ExecutionState, heap: list[tuple[int, int]], now: int) -> bool:
    """Whether the top of a heap still means something, which goes if not.

    It does for a node that has not begun, or for a retry that is due and had no room. A replay leaves entries of
    nodes that began since, and such a node may be between two attempts: its timer then says when.
    """
    index = heap[0][1]
    node = state.nodes[index]
    if node.status is NodeStatus.PENDING:
        return True
    if node.status is NodeStatus.RETRYING:
        if node.due_at <= now:
            return True
        push_timers(state, index, node)
    heappop(heap)
    return False


def decide_node(deciding: Deciding, index: int) -> None:
    """The node's turn: failed edge, `when`, then its type."""
    state = deciding.state
    compiled, node = state.workflow.nodes[index], state.nodes[index]
    if node.edge_error:
        fail_node(deciding, index, NodeError(EXPRESSION, node.edge_error, retryable=False, node=index))
        return
    if compiled.when is not None:
        try:
            runs = holds(compiled.when, deciding.see(compiled.when.references, compiled))
        except ExpressionError as error:
            fail_node(deciding, index, NodeError(EXPRESSION, f"when: {error}", retryable=False, node=index))
            return
        if not runs:
            deciding.emit(NodeSkipped(index))
            return
    if compiled.local:
        local.run(deciding, index)
    else:
        schedule(deciding, index)


def schedule(deciding: Deciding, index: int) -> None:
    """Schedule the node's next attempt."""
    state = deciding.state
    compiled, node = state.workflow.nodes[index], state.nodes[index]
    variables = b""
    if compiled.references.vars and compiled.var_writers:
        # Taken once, when the node becomes ready: a retry sees what its first attempt saw.
        variables = node.task_vars or state.values.dumps(visible_vars(state, compiled))
    attempt = node.attempt + 1
    deciding.emit(NodeScheduled(index, attempt, variables))
    deciding.want(DispatchTask(index, attempt))
