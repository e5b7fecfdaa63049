"""Events as the public contract shows them: node ids in the place of indices, payloads only where asked for."""

from __future__ import annotations

from typing import Any

from services.adapters.wire.failures import put_node_error
from services.adapters.wire.json_values import put_struct, put_value
from services.adapters.wire.scalars import STATUS_NUMBERS, WAITING_FOR_NUMBERS, set_instant
from services.core import events as ev
from services.core.graph import CompiledWorkflow
from weconnect.executions.v1 import history_pb2 as pb


def history_event(
    event: ev.Event, sequence: int, at: int, workflow: CompiledWorkflow, *, full: bool, exact: bool
) -> pb.HistoryEvent:
    """One event; `full` has payloads."""
    message = pb.HistoryEvent(sequence=sequence)
    set_instant(message.at, at)
    node = getattr(event, "node", None)
    if node is not None:
        message.node_id = workflow.nodes[node].id
        message.attempt = getattr(event, "attempt", 0)
    _put_event(message, event, workflow, full, exact)
    return message


def _put_event(
    message: pb.HistoryEvent, event: ev.Event, workflow: CompiledWorkflow, full: bool, exact: bool
) -> None:
    match event:
        case ev.ExecutionStarted():
            set_instant(message.execution_started.deadline_at, event.deadline_at)
        case ev.NodeScheduled():
            message.node_scheduled.SetInParent()
        case ev.NodeStarted():
            message.node_started.runner_id = event.runner_id
            set_instant(message.node_started.started_at, event.started_at)
        case ev.NodeSucceeded():
            _put_succeeded(message.node_succeeded, event, workflow, full, exact)
        case ev.NodeFailed():
            body = message.node_failed
            put_node_error(body.error, event.error, exact=exact)
            body.handled, body.continued = event.handled, event.continued
            _put_run(body, event)
            _put_choices(body, event.choices, workflow)
        case ev.NodeRetrying():
            put_node_error(message.node_retrying.error, event.error, exact=exact)
            set_instant(message.node_retrying.retry_at, event.retry_at)
            _put_run(message.node_retrying, event)
        case ev.AttemptLost():
            message.attempt_lost.runner_id = event.runner_id
            message.attempt_lost.SetInParent()
        case ev.AttemptReturned():
            message.attempt_returned.SetInParent()
        case ev.NodeSkipped():
            message.node_skipped.SetInParent()
        case ev.NodeWaiting():
            message.node_waiting.waiting_for = WAITING_FOR_NUMBERS.get(event.waiting_for, 0)
            message.node_waiting.SetInParent()
            if event.until:
                set_instant(message.node_waiting.until, event.until)
        case ev.CancelRequested():
            body_cancel = message.cancel_requested
            body_cancel.reason, body_cancel.requested_by = event.reason, event.requested_by
            set_instant(body_cancel.grace_until, event.grace_until)
        case ev.NodeCancelled():
            message.node_cancelled.SetInParent()
        case ev.ExecutionEnded():
            _put_ended(message.execution_ended, event, workflow, full, exact)


def _put_succeeded(
    body: pb.NodeSucceeded, event: ev.NodeSucceeded, workflow: CompiledWorkflow, full: bool, exact: bool
) -> None:
    body.output_size_bytes, body.port = len(event.output), event.port
    if full and event.output:
        put_value(body, "output", event.output, exact=exact)
    if full and event.vars:
        put_struct(body, "vars", event.vars, exact=exact)
    _put_run(body, event)
    _put_choices(body, event.choices, workflow)


def _put_ended(
    body: pb.ExecutionEnded, event: ev.ExecutionEnded, workflow: CompiledWorkflow, full: bool, exact: bool
) -> None:
    body.status = STATUS_NUMBERS[event.status]
    body.output_size_bytes = len(event.output)
    if full and event.output:
        put_value(body, "output", event.output, exact=exact)
    if event.error is not None:
        put_node_error(body.error, event.error, exact=exact)
        if event.error.node >= 0:
            body.failed_node_id = workflow.nodes[event.error.node].id


def _put_run(body: Any, event: Any) -> None:
    if event.started_at:
        set_instant(body.started_at, event.started_at)
    if event.ended_at:
        set_instant(body.completed_at, event.ended_at)
    body.runner_id = event.runner_id


def _put_choices(body: Any, choices: tuple[ev.EdgeChoice, ...], workflow: CompiledWorkflow) -> None:
    for choice in choices:
        edge = workflow.edges[choice.edge]
        body.edge_outcomes.add(
            target=workflow.nodes[edge.target].id,
            port=edge.port,
            taken=choice.outcome is ev.EdgeOutcome.TAKEN,
            error=choice.message,
        )
