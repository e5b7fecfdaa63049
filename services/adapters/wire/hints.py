"""What api takes from broadcasts: which executions a commit touched and ended, which node types runners announce."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from services.adapters.wire.tasks import WireError
from weconnect.internal.v1 import history_pb2, task_pb2


@dataclass(frozen=True, slots=True)
class Hint:
    """A commit of a session, or one of its `parts`: executions touched (with their last sequence) and ended."""

    session: int
    number: int
    parts: int
    touched: dict[bytes, int]
    ended: list[bytes]


def decode_hint(data: bytes) -> Hint:
    """Raises WireError for bytes that are no digest."""
    try:
        digest = history_pb2.CommitDigest.FromString(data)
    except DecodeError as error:
        raise WireError("not a commit digest") from error
    touched: dict[bytes, int] = {}
    ended: list[bytes] = []
    for entry in digest.touched:
        execution_id = entry.execution_id
        touched[execution_id] = entry.first_sequence + len(entry.events) - 1
        if entry.ended:
            ended.append(execution_id)
    return Hint(digest.session, digest.number, max(digest.parts, 1), touched, ended)


def announced_types(data: bytes) -> list[str]:
    """Node types in a runner's beat; only whole beats have them. Raises WireError."""
    try:
        return list(task_pb2.Beat.FromString(data).node_types)
    except DecodeError as error:
        raise WireError("not a beat") from error
