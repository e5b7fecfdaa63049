"""`apply`: one event changes the state. Total for every history that `decide` wrote; evaluates nothing."""

from __future__ import annotations

from heapq import heappush
from typing import assert_never

from services.core import events as ev
from services.core.errors import NodeError
from services.core.machine import timers
from services.core.machine.edges import DEAD, TAKEN, cancel_node, drop_node, make_ready, resolve_edge
from services.core.state import ExecutionState, NodeState, RetryRecord, failed_status
from services.core.states import (
    ACTIVE,
    EXECUTION_TRANSITIONS,
    NODE_TRANSITIONS,
    OPEN,
    ExecutionStatus,
    IllegalTransition,
    NodeStatus,
)

_END = {status.word: status for status in ExecutionStatus if status.final}


def apply(state: ExecutionState, event: ev.Event, at: int) -> None:
    """Apply one event that was decided at instant `at`. Raises IllegalTransition; the state is then void."""
    state.sequence += 1
    match event:
        case ev.NodeScheduled():
            _node_scheduled(state, event, at)
        case ev.NodeSucceeded():
            _node_succeeded(state, event, at)
        case ev.NodeStarted():
            node = state.nodes[event.node]
            node.started_at, node.runner_id = event.started_at, event.runner_id
            _move(state, event.node, NodeStatus.RUNNING)
        case ev.NodeFailed():
            _node_failed(state, event, at)
        case ev.NodeRetrying():
            _node_retrying(state, event, at)
        case ev.AttemptLost():
            _attempt_lost(state, event, at)
        case ev.AttemptReturned():
            node = state.nodes[event.node]
            node.started_at, node.runner_id, node.scheduled_at = 0, "", at
            node.returned_by = event.runner_id
            if node.status is NodeStatus.SCHEDULED:
                timers.push_timers(state, event.node, node)
            else:
                _move(state, event.node, NodeStatus.SCHEDULED)
        case ev.NodeSkipped():
            _end(state, event.node, NodeStatus.SKIPPED, at)
            _resolve_all(state, event.node, at)
        case ev.NodeWaiting():
            node = state.nodes[event.node]
            node.started_at, node.due_at, node.waiting_for = at, event.until, event.waiting_for
            _move(state, event.node, NodeStatus.WAITING)
        case ev.NodeCancelled():
            for edge, outcome in cancel_node(state, event.node, at):
                resolve_edge(state, edge, outcome, at)
        case ev.CancelRequested():
            _cancel_requested(state, event, at)
        case ev.ExecutionStarted():
            _execution_started(state, event, at)
        case ev.ExecutionEnded():
            _execution_ended(state, event, at)
        case _:
            assert_never(event)


def _execution_started(state: ExecutionState, event: ev.ExecutionStarted, at: int) -> None:
    _set_status(state, ExecutionStatus.RUNNING)
    state.started_at, state.deadline_at, state.status_reason = at, event.deadline_at, ""
    heappush(state.timers, (event.deadline_at, timers.EXECUTION_TIMEOUT, timers.EXECUTION, 0))
    for root in state.workflow.roots:
        make_ready(state, root)


def _cancel_requested(state: ExecutionState, event: ev.CancelRequested, at: int) -> None:
    """Whatever no runner has in hand is cancelled now; `active` then counts the attempts that run."""
    state.status_reason, state.grace_until = "CANCELLING", event.grace_until
    state.cancel_reason, state.cancelled_by = event.reason, event.requested_by
    heappush(state.timers, (event.grace_until, timers.CANCEL_GRACE, timers.EXECUTION, 0))
    for index, node in enumerate(state.nodes):
        if node.status in OPEN and node.status is not NodeStatus.RUNNING:
            for edge, outcome in drop_node(state, index, at):
                resolve_edge(state, edge, outcome, at)


def _execution_ended(state: ExecutionState, event: ev.ExecutionEnded, at: int) -> None:
    _set_status(state, _END[event.status])
    state.ended_at, state.error, state.status_reason = at, event.error, ""
    state.output, state.output_sequence = event.output, state.sequence
    for node in state.nodes:
        if not node.status.final:
            node.status = NodeStatus.CANCELLED
            node.ended_at = at
            node.ended_sequence = state.sequence
            state.finished += 1
    state.open = state.active = 0
    state.ready_local.clear()
    state.ready_tasks.clear()
    state.timers.clear()


def _node_scheduled(state: ExecutionState, event: ev.NodeScheduled, at: int) -> None:
    node = state.nodes[event.node]
    node.attempt, node.scheduled_at, node.task_vars = event.attempt, at, event.vars
    node.started_at, node.due_at, node.runner_id, node.returned_by = 0, 0, "", ""
    if event.attempt == 1:
        node.first_scheduled_at = at
    _move(state, event.node, NodeStatus.SCHEDULED)


def _node_succeeded(state: ExecutionState, event: ev.NodeSucceeded, at: int) -> None:
    index = event.node
    node, compiled = state.nodes[index], state.workflow.nodes[index]
    _set_run(node, event.started_at, event.runner_id, at)
    node.port, node.vars, node.error = event.port, event.vars, None
    node.cpu_seconds += event.cpu_seconds
    node.memory_bytes = max(node.memory_bytes, event.memory_bytes)
    _end(state, index, NodeStatus.SUCCESS, event.ended_at or at)
    if index in state.workflow.retained:
        state.values.put(index, event.output)
    choices = {choice.edge: choice for choice in event.choices}
    for edge_index in compiled.outgoing:
        edge = state.workflow.edges[edge_index]
        choice = choices.get(edge_index)
        if choice is not None:
            resolve_edge(state, edge_index, choice.outcome, at, choice.message)
        else:
            resolve_edge(state, edge_index, TAKEN if edge.port == event.port else DEAD, at)


def _node_failed(state: ExecutionState, event: ev.NodeFailed, at: int) -> None:
    index = event.node
    node, compiled = state.nodes[index], state.workflow.nodes[index]
    _set_run(node, event.started_at, event.runner_id, at)
    node.error, node.continued = event.error, event.continued
    _end(state, index, failed_status(event.error), event.ended_at or at)
    if not event.handled:
        return
    choices = {choice.edge: choice for choice in event.choices}
    taken = set(event.taken)
    for edge_index in compiled.outgoing:
        choice = choices.get(edge_index)
        if choice is not None:
            resolve_edge(state, edge_index, choice.outcome, at, choice.message)
        else:
            resolve_edge(state, edge_index, TAKEN if edge_index in taken else DEAD, at)


def _node_retrying(state: ExecutionState, event: ev.NodeRetrying, at: int) -> None:
    node = state.nodes[event.node]
    _keep_attempt(
        node, event.error, event.started_at, event.ended_at or at, event.retry_at - at, event.runner_id
    )
    node.error, node.due_at = event.error, event.retry_at
    _move(state, event.node, NodeStatus.RETRYING)


def _attempt_lost(state: ExecutionState, event: ev.AttemptLost, at: int) -> None:
    node = state.nodes[event.node]
    _keep_attempt(node, None, node.started_at, at, 0, event.runner_id, lost=True)
    node.losses += 1
    node.due_at = at
    _move(state, event.node, NodeStatus.RETRYING)


def _keep_attempt(
    node: NodeState,
    error: NodeError | None,
    started_at: int,
    ended_at: int,
    delay: int,
    runner: str,
    lost: bool = False,
) -> None:
    if node.retries is None:
        node.retries = []
    node.retries.append(RetryRecord(node.attempt, started_at, ended_at, error, delay, runner, lost))


def _set_run(node: NodeState, started_at: int, runner_id: str, at: int) -> None:
    """A node without attempts began when it was decided; an attempt that never began has no start."""
    node.started_at = started_at or node.started_at or (0 if node.attempt else at)
    if runner_id:
        node.runner_id = runner_id


def _resolve_all(state: ExecutionState, index: int, at: int) -> None:
    for edge in state.workflow.nodes[index].outgoing:
        resolve_edge(state, edge, DEAD, at)


def _set_status(state: ExecutionState, status: ExecutionStatus) -> None:
    if status not in EXECUTION_TRANSITIONS[state.status]:
        raise IllegalTransition(f"execution {state.status.name} -> {status.name}")
    state.status = status


def _move(state: ExecutionState, index: int, status: NodeStatus) -> None:
    """Move a node to a status that is not final."""
    node = state.nodes[index]
    if status not in NODE_TRANSITIONS[node.status]:
        raise IllegalTransition(f"node {index} {node.status.name} -> {status.name}")
    state.open += (status in OPEN) - (node.status in OPEN)
    state.active += (status in ACTIVE) - (node.status in ACTIVE)
    node.status = status
    timers.push_timers(state, index, node)


def _end(state: ExecutionState, index: int, status: NodeStatus, at: int) -> None:
    """Move a node to a final status."""
    node = state.nodes[index]
    if status not in NODE_TRANSITIONS[node.status]:
        raise IllegalTransition(f"node {index} {node.status.name} -> {status.name}")
    state.open -= node.status in OPEN
    state.active -= node.status in ACTIVE
    node.status, node.ended_at, node.ended_sequence = status, at, state.sequence
    node.due_at, node.waiting_for, node.task_vars = 0, "", b""
    state.finished += 1
