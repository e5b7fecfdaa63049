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
    return pb.Events(events=[encode_event(event) for event in events]).SerializeToString()


def encode_event(event: ev.Event) -> pb.Event:
    """One event."""
    return _ENCODE[type(event)](event)


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


def _succeeded(e: ev.NodeSucceeded) -> pb.Event:
    message = pb.Event()
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
    return message


def _scheduled(e: ev.NodeScheduled) -> pb.Event:
    message = pb.Event()
    body = message.node_scheduled
    body.node, body.attempt = e.node, e.attempt
    if e.vars:
        body.vars = e.vars
    return message


def _failed(e: ev.NodeFailed) -> pb.Event:
    return pb.Event(
        node_failed=pb.NodeFailed(
            node=e.node,
            attempt=e.attempt,
            error=encode_error(e.error),
            handled=e.handled,
            continued=e.continued,
            choices=_choices(e.choices),
            taken=e.taken,
            started_at=e.started_at,
            ended_at=e.ended_at,
            runner_id=e.runner_id,
        )
    )


def _retrying(e: ev.NodeRetrying) -> pb.Event:
    return pb.Event(
        node_retrying=pb.NodeRetrying(
            node=e.node,
            attempt=e.attempt,
            error=encode_error(e.error),
            retry_at=e.retry_at,
            started_at=e.started_at,
            ended_at=e.ended_at,
            runner_id=e.runner_id,
        )
    )


_ENCODE: dict[type, Callable[[Any], pb.Event]] = {
    ev.ExecutionStarted: lambda e: pb.Event(execution_started=pb.ExecutionStarted(deadline_at=e.deadline_at)),
    ev.NodeScheduled: _scheduled,
    ev.NodeStarted: lambda e: pb.Event(
        node_started=pb.NodeStarted(
            node=e.node, attempt=e.attempt, runner_id=e.runner_id, started_at=e.started_at
        )
    ),
    ev.NodeSucceeded: _succeeded,
    ev.NodeFailed: _failed,
    ev.NodeRetrying: _retrying,
    ev.AttemptLost: lambda e: pb.Event(
        attempt_lost=pb.AttemptLost(node=e.node, attempt=e.attempt, runner_id=e.runner_id)
    ),
    ev.AttemptReturned: lambda e: pb.Event(
        attempt_returned=pb.AttemptReturned(node=e.node, attempt=e.attempt, runner_id=e.runner_id)
    ),
    ev.NodeSkipped: lambda e: pb.Event(node_skipped=pb.NodeSkipped(node=e.node)),
    ev.NodeWaiting: lambda e: pb.Event(
        node_waiting=pb.NodeWaiting(node=e.node, until=e.until, waiting_for=e.waiting_for)
    ),
    ev.CancelRequested: lambda e: pb.Event(
        cancel_requested=pb.CancelRequested(
            reason=e.reason.encode("utf-8", "replace"),
            requested_by=e.requested_by,
            grace_until=e.grace_until,
        )
    ),
    ev.NodeCancelled: lambda e: pb.Event(node_cancelled=pb.NodeCancelled(node=e.node, attempt=e.attempt)),
    ev.ExecutionEnded: lambda e: pb.Event(
        execution_ended=pb.ExecutionEnded(status=e.status, output=e.output, error=encode_error(e.error))
    ),
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
