"""Histories, snapshots and commit digests in their stored form (`weconnect.internal.v1`).

An event has one encoding, used in history rows and, with its payloads left out, in digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.core import events as ev
from services.core.errors import NodeError
from weconnect.internal.v1 import history_pb2 as pb


def encode_events(events: Iterable[ev.Event]) -> bytes:
    """Bytes of a history row."""
    return events_message(events).SerializeToString()


def events_message(events: Iterable[ev.Event]) -> pb.Events:
    """The events as one message, each written in place: copying messages costs more than making them."""
    message = pb.Events()
    add = message.events.add
    for event in events:
        _ENCODE[type(event)](add(), event)
    return message


def decode_events(data: bytes) -> list[ev.Event]:
    """Events of a history row. Raises UnknownEvent for a kind that this release does not know."""
    return [decode_event(event) for event in pb.Events.FromString(data).events]


class UnknownEvent(Exception):
    """A history holds a kind of event of a newer release; it is quarantined, never skipped."""


def decode_event(message: pb.Event) -> ev.Event:
    """One event."""
    kind = message.WhichOneof("kind")
    if kind is None:
        raise UnknownEvent("event of an unknown kind")
    return _DECODE[kind](getattr(message, kind))


def encode_error(error: NodeError | None) -> pb.Error | None:
    """An error, or None."""
    if error is None:
        return None
    return pb.Error(
        type=error.type,
        message=error.message.encode("utf-8", "replace"),
        details=error.details,
        retryable=error.retryable,
        timeout=error.timeout,
        retry_after_us=error.retry_after_us,
        node_plus_one=error.node + 1,
    )


def decode_error(message: pb.Error) -> NodeError:
    """The inverse of `encode_error`."""
    return NodeError(
        message.type,
        message.message.decode("utf-8", "replace"),
        message.details,
        message.retryable,
        message.timeout,
        message.retry_after_us,
        message.node_plus_one - 1,
    )


def _choices(choices: tuple[ev.EdgeChoice, ...]) -> list[pb.EdgeChoice]:
    return [pb.EdgeChoice(edge=c.edge, outcome=c.outcome, message=c.message) for c in choices]


def _choices_of(messages: Iterable[pb.EdgeChoice]) -> tuple[ev.EdgeChoice, ...]:
    return tuple(ev.EdgeChoice(m.edge, ev.EdgeOutcome(m.outcome), m.message) for m in messages)


def _succeeded(message: pb.Event, e: ev.NodeSucceeded) -> None:
    body = message.node_succeeded
    body.node, body.attempt, body.output = e.node, e.attempt, e.output
    body.started_at, body.ended_at, body.runner_id = e.started_at, e.ended_at, e.runner_id
    if e.port != "out":
        body.port = e.port
    if e.vars:
        body.vars = e.vars
    if e.choices:
        body.choices.extend(_choices(e.choices))
    if e.cpu_seconds or e.memory_bytes:
        body.cpu_seconds, body.memory_bytes = e.cpu_seconds, e.memory_bytes


def _scheduled(message: pb.Event, e: ev.NodeScheduled) -> None:
    body = message.node_scheduled
    body.node, body.attempt = e.node, e.attempt
    if e.vars:
        body.vars = e.vars


def _started(message: pb.Event, e: ev.NodeStarted) -> None:
    body = message.node_started
    body.node, body.attempt, body.runner_id, body.started_at = e.node, e.attempt, e.runner_id, e.started_at


def _failed(message: pb.Event, e: ev.NodeFailed) -> None:
    body = message.node_failed
    body.node, body.attempt, body.handled, body.continued = e.node, e.attempt, e.handled, e.continued
    body.started_at, body.ended_at, body.runner_id = e.started_at, e.ended_at, e.runner_id
    body.choices.extend(_choices(e.choices))
    body.taken.extend(e.taken)
    put_error(body.error, e.error)


def _retrying(message: pb.Event, e: ev.NodeRetrying) -> None:
    body = message.node_retrying
    body.node, body.attempt, body.retry_at = e.node, e.attempt, e.retry_at
    body.started_at, body.ended_at, body.runner_id = e.started_at, e.ended_at, e.runner_id
    put_error(body.error, e.error)


def _lost(message: pb.Event, e: ev.AttemptLost) -> None:
    body = message.attempt_lost
    body.node, body.attempt, body.runner_id = e.node, e.attempt, e.runner_id


def _returned(message: pb.Event, e: ev.AttemptReturned) -> None:
    body = message.attempt_returned
    body.node, body.attempt, body.runner_id = e.node, e.attempt, e.runner_id


def _skipped(message: pb.Event, e: ev.NodeSkipped) -> None:
    message.node_skipped.SetInParent()
    message.node_skipped.node = e.node


def _waiting(message: pb.Event, e: ev.NodeWaiting) -> None:
    body = message.node_waiting
    body.node, body.until, body.waiting_for = e.node, e.until, e.waiting_for


def _cancel_requested(message: pb.Event, e: ev.CancelRequested) -> None:
    body = message.cancel_requested
    body.SetInParent()
    body.reason = e.reason.encode("utf-8", "replace")
    body.requested_by, body.grace_until = e.requested_by, e.grace_until


def _cancelled(message: pb.Event, e: ev.NodeCancelled) -> None:
    message.node_cancelled.SetInParent()
    message.node_cancelled.node, message.node_cancelled.attempt = e.node, e.attempt


def _execution_started(message: pb.Event, e: ev.ExecutionStarted) -> None:
    message.execution_started.SetInParent()
    message.execution_started.deadline_at = e.deadline_at


def _execution_ended(message: pb.Event, e: ev.ExecutionEnded) -> None:
    body = message.execution_ended
    body.status, body.output = e.status, e.output
    if e.error is not None:
        put_error(body.error, e.error)


def put_error(message: pb.Error, error: NodeError) -> None:
    """Write an error in its place."""
    encoded = encode_error(error)
    assert encoded is not None
    message.CopyFrom(encoded)


_ENCODE: dict[type, Callable[[pb.Event, Any], None]] = {
    ev.ExecutionStarted: _execution_started,
    ev.NodeScheduled: _scheduled,
    ev.NodeStarted: _started,
    ev.NodeSucceeded: _succeeded,
    ev.NodeFailed: _failed,
    ev.NodeRetrying: _retrying,
    ev.AttemptLost: _lost,
    ev.AttemptReturned: _returned,
    ev.NodeSkipped: _skipped,
    ev.NodeWaiting: _waiting,
    ev.CancelRequested: _cancel_requested,
    ev.NodeCancelled: _cancelled,
    ev.ExecutionEnded: _execution_ended,
}

_DECODE: dict[str, Callable[[Any], ev.Event]] = {
    "execution_started": lambda m: ev.ExecutionStarted(m.deadline_at),
    "node_scheduled": lambda m: ev.NodeScheduled(m.node, m.attempt, m.vars),
    "node_started": lambda m: ev.NodeStarted(m.node, m.attempt, m.runner_id, m.started_at),
    "node_succeeded": lambda m: ev.NodeSucceeded(
        m.node,
        m.attempt,
        m.output,
        m.port or "out",
        m.vars,
        _choices_of(m.choices),
        m.started_at,
        m.ended_at,
        m.runner_id,
        m.cpu_seconds,
        m.memory_bytes,
    ),
    "node_failed": lambda m: ev.NodeFailed(
        m.node,
        m.attempt,
        decode_error(m.error),
        m.handled,
        m.continued,
        _choices_of(m.choices),
        tuple(m.taken),
        m.started_at,
        m.ended_at,
        m.runner_id,
    ),
    "node_retrying": lambda m: ev.NodeRetrying(
        m.node, m.attempt, decode_error(m.error), m.retry_at, m.started_at, m.ended_at, m.runner_id
    ),
    "attempt_lost": lambda m: ev.AttemptLost(m.node, m.attempt, m.runner_id),
    "attempt_returned": lambda m: ev.AttemptReturned(m.node, m.attempt, m.runner_id),
    "node_skipped": lambda m: ev.NodeSkipped(m.node),
    "node_waiting": lambda m: ev.NodeWaiting(m.node, m.until, m.waiting_for),
    "cancel_requested": lambda m: ev.CancelRequested(
        m.reason.decode("utf-8", "replace"), m.requested_by, m.grace_until
    ),
    "node_cancelled": lambda m: ev.NodeCancelled(m.node, m.attempt),
    "execution_ended": lambda m: ev.ExecutionEnded(
        m.status, m.output, decode_error(m.error) if m.HasField("error") else None
    ),
}
