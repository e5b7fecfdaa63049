"""An execution's state as a snapshot, and back. Payloads stay in history rows; variables travel with their nodes."""

from __future__ import annotations

from heapq import heappush

from services.adapters.wire.history import UnknownEvent, decode_error, encode_error, put_error
from services.core.events import EVENTS_VERSION, EdgeOutcome
from services.core.machine.edges import make_ready
from services.core.machine.timers import (
    CANCEL_GRACE,
    EXECUTION,
    EXECUTION_TIMEOUT,
    push_schedule_to_close,
    push_timers,
)
from services.core.state import ExecutionState, NodeState, RetryRecord
from services.core.states import ACTIVE, OPEN, ExecutionStatus, NodeStatus
from weconnect.internal.v1 import history_pb2 as pb


def encode_snapshot(state: ExecutionState) -> bytes:
    """Snapshot of a state at its sequence."""
    message = pb.Snapshot(
        events_version=EVENTS_VERSION,
        sequence=state.sequence,
        status=state.status,
        status_reason=state.status_reason,
        started_at=state.started_at,
        deadline_at=state.deadline_at,
        grace_until=state.grace_until,
        ended_at=state.ended_at,
        error=encode_error(state.error),
        cancel_reason=state.cancel_reason.encode("utf-8", "replace"),
        cancelled_by=state.cancelled_by,
        output_sequence=state.output_sequence,
        edges=bytes(state.edges),
    )
    add = message.nodes.add
    for index, node in enumerate(state.nodes):
        if node.status is not NodeStatus.PENDING or node.decided:
            _encode_node(add(), index, node)
    return message.SerializeToString()


def restore_snapshot(state: ExecutionState, data: bytes) -> None:
    """Bring a new state to where the snapshot was taken; outputs are missing until they are loaded."""
    message = pb.Snapshot.FromString(data)
    if message.events_version > EVENTS_VERSION:
        raise UnknownEvent(f"snapshot of events version {message.events_version}")
    state.sequence = message.sequence
    state.status = ExecutionStatus(message.status)
    state.status_reason = message.status_reason
    state.started_at, state.deadline_at = message.started_at, message.deadline_at
    state.grace_until, state.ended_at = message.grace_until, message.ended_at
    state.output_sequence = message.output_sequence
    state.error = decode_error(message.error) if message.HasField("error") else None
    state.cancel_reason = message.cancel_reason.decode("utf-8", "replace")
    state.cancelled_by = message.cancelled_by
    state.edges[:] = message.edges
    state.values.complete = False
    for edge, outcome in zip(state.workflow.edges, state.edges, strict=True):
        if outcome:
            target = state.nodes[edge.target]
            target.taken += outcome == EdgeOutcome.TAKEN
            target.dead += outcome != EdgeOutcome.TAKEN
    for part in message.nodes:
        _restore_node(state, part)
    if state.deadline_at and not state.status.final:
        heappush(state.timers, (state.deadline_at, EXECUTION_TIMEOUT, EXECUTION, 0))
        if state.grace_until:
            heappush(state.timers, (state.grace_until, CANCEL_GRACE, EXECUTION, 0))


def _encode_node(m: pb.NodeSnapshot, index: int, node: NodeState) -> None:
    """Written in place, what is absent left out: a snapshot has one of these for every node."""
    m.node, m.status, m.decided = index, node.status, node.decided
    if node.attempt:
        m.attempt, m.scheduled_at = node.attempt, node.scheduled_at
        m.first_scheduled_at = node.first_scheduled_at
        m.runner_id = node.runner_id
    if node.started_at:
        m.started_at = node.started_at
    if node.ended_sequence:
        m.ended_at, m.ended_sequence = node.ended_at, node.ended_sequence
    if node.due_at:
        m.due_at = node.due_at
    if node.waiting_for:
        m.waiting_for = node.waiting_for
    if node.error is not None:
        put_error(m.error, node.error)
    if node.port != "out":
        m.port = node.port
    if node.task_vars:
        m.task_vars = node.task_vars
    if node.vars:
        m.vars = node.vars
    if node.losses:
        m.losses = node.losses
    if node.retries:
        m.retries.extend([_encode_retry(record) for record in node.retries])
    if node.continued:
        m.continued = True
    if node.cpu_seconds or node.memory_bytes:
        m.cpu_seconds, m.memory_bytes = node.cpu_seconds, node.memory_bytes
    if node.edge_error:
        m.edge_error = node.edge_error
    if node.returned_by:
        m.returned_by = node.returned_by


def _encode_retry(record: RetryRecord) -> pb.RetryRecord:
    return pb.RetryRecord(
        attempt=record.attempt,
        started_at=record.started_at,
        ended_at=record.ended_at,
        error=encode_error(record.error),
        delay_us=record.delay_us,
        runner_id=record.runner_id,
        lost=record.lost,
    )


def _restore_node(state: ExecutionState, part: pb.NodeSnapshot) -> None:
    node = state.nodes[part.node]
    node.status = NodeStatus(part.status)
    node.attempt, node.losses = part.attempt, part.losses
    node.first_scheduled_at, node.scheduled_at = part.first_scheduled_at, part.scheduled_at
    node.started_at, node.ended_at, node.due_at = part.started_at, part.ended_at, part.due_at
    node.waiting_for, node.runner_id = part.waiting_for, part.runner_id
    node.error = decode_error(part.error) if part.HasField("error") else None
    node.ended_sequence = part.ended_sequence
    node.task_vars, node.vars = part.task_vars, part.vars
    node.port, node.continued = part.port or "out", part.continued
    node.cpu_seconds, node.memory_bytes = part.cpu_seconds, part.memory_bytes
    node.decided, node.edge_error = part.decided, part.edge_error
    node.returned_by = part.returned_by
    if part.retries:
        node.retries = [
            RetryRecord(
                r.attempt,
                r.started_at,
                r.ended_at,
                decode_error(r.error) if r.HasField("error") else None,
                r.delay_us,
                r.runner_id,
                r.lost,
            )
            for r in part.retries
        ]
    state.open += node.status in OPEN
    state.active += node.status in ACTIVE
    state.finished += node.status.final
    if not state.status.final:
        if node.status is NodeStatus.PENDING and node.decided:
            make_ready(state, part.node)
        _restore_timers(state, part.node, node)


def _restore_timers(state: ExecutionState, index: int, node: NodeState) -> None:
    push_timers(state, index, node)
    if node.status in OPEN and node.attempt:
        push_schedule_to_close(state, index, node)
