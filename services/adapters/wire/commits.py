"""Commit digests: what a commit changed, payloads left out. Stored with the commit and hinted after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from services.adapters.wire.history import events_message
from services.core import events as ev
from services.core.events import Event
from services.core.state import ExecutionState
from weconnect.internal.v1 import history_pb2 as pb

HINT_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Encoded:
    """One execution's part of a commit: the history row's bytes, and its entry in the digest."""

    events: bytes
    touched: pb.Touched


def encode_change(state: ExecutionState, first_sequence: int, events: Sequence[Event]) -> Encoded:
    """Encode events once for the row, then strip the same messages of their payloads for the digest."""
    message = events_message(events)
    row = message.SerializeToString()
    for event, encoded in zip(events, message.events, strict=True):
        strip = _STRIP.get(type(event))
        if strip is not None:
            strip(encoded)
    info = state.info
    touched = pb.Touched(
        execution_id=info.id,
        first_sequence=first_sequence,
        version_id=info.version_id,
        ended=state.status.word if state.status.final else "",
        organization_id=info.organization_id,
        workflow_id=info.workflow_id,
        mode=info.mode,
        created_at=info.created_at,
        started_at=state.started_at,
    )
    touched.events.MergeFrom(message.events)
    return Encoded(row, touched)


def _strip_scheduled(message: pb.Event) -> None:
    message.node_scheduled.ClearField("vars")


def _strip_succeeded(message: pb.Event) -> None:
    body = message.node_succeeded
    body.ClearField("output")
    body.ClearField("vars")
    body.ClearField("choices")


def _strip_failed(message: pb.Event) -> None:
    message.node_failed.error.ClearField("details")
    message.node_failed.ClearField("choices")


def _strip_retrying(message: pb.Event) -> None:
    message.node_retrying.error.ClearField("details")


def _strip_ended(message: pb.Event) -> None:
    body = message.execution_ended
    body.ClearField("output")
    if body.HasField("error"):
        body.error.ClearField("details")


_STRIP: dict[type, Callable[[pb.Event], None]] = {
    ev.NodeScheduled: _strip_scheduled,
    ev.NodeSucceeded: _strip_succeeded,
    ev.NodeFailed: _strip_failed,
    ev.NodeRetrying: _strip_retrying,
    ev.ExecutionEnded: _strip_ended,
}


def encode_digest(session: int, number: int, at: int, touched: Iterable[pb.Touched]) -> bytes:
    """Bytes of a commit's digest."""
    return pb.CommitDigest(session=session, number=number, at=at, touched=touched).SerializeToString()


def hint_parts(digest: bytes) -> Iterator[bytes]:
    """The digest as messages of at most 256 KiB; almost always it is one."""
    if len(digest) <= HINT_BYTES_MAX:
        yield digest
        return
    whole = pb.CommitDigest.FromString(digest)
    parts: list[list[pb.Touched]] = [[]]
    size = 0
    for touched in whole.touched:
        # One execution's entry that is too large by itself goes without its events: the reader asks rows.
        entry = touched if touched.ByteSize() < HINT_BYTES_MAX // 2 else _without_events(touched)
        size += entry.ByteSize() + 8
        if size > HINT_BYTES_MAX - 1024:
            parts.append([])
            size = entry.ByteSize() + 8
        parts[-1].append(entry)
    for part in parts:
        yield pb.CommitDigest(
            session=whole.session, number=whole.number, at=whole.at, touched=part, parts=len(parts)
        ).SerializeToString()


def _without_events(touched: pb.Touched) -> pb.Touched:
    bare = pb.Touched()
    bare.CopyFrom(touched)
    bare.ClearField("events")
    return bare
