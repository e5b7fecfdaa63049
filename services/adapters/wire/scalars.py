"""Instants, durations and enums between their inner form and protobuf's."""

from __future__ import annotations

from typing import Any

from google.protobuf import duration_pb2, timestamp_pb2

from services.core.states import NodeStatus
from services.core.units import SECOND
from weconnect.executions.v1 import enums_pb2 as enums

# Bounds of google.protobuf.Timestamp and Duration in seconds.
TIMESTAMP_SECONDS_MIN = -62_135_596_800
TIMESTAMP_SECONDS_MAX = 253_402_300_799
DURATION_SECONDS_MAX = 315_576_000_000


def timestamp_of(at: int) -> timestamp_pb2.Timestamp:
    """Timestamp of an instant in microseconds."""
    seconds, rest = divmod(at, SECOND)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=rest * 1000)


def set_instant(timestamp: timestamp_pb2.Timestamp, at: int) -> None:
    """Write an instant in microseconds into a Timestamp field."""
    timestamp.seconds, rest = divmod(at, SECOND)
    timestamp.nanos = rest * 1000


def instant_of(timestamp: timestamp_pb2.Timestamp) -> int:
    """Instant in microseconds of a Timestamp. Raises ValueError for one that is out of its bounds."""
    if not TIMESTAMP_SECONDS_MIN <= timestamp.seconds <= TIMESTAMP_SECONDS_MAX:
        raise ValueError("the timestamp is out of its bounds")
    if not 0 <= timestamp.nanos < 1_000_000_000:
        raise ValueError("the timestamp's nanos are out of their bounds")
    return timestamp.seconds * SECOND + timestamp.nanos // 1000


def set_duration(duration: duration_pb2.Duration, duration_us: int) -> None:
    """Write microseconds into a Duration field."""
    seconds, rest = divmod(abs(duration_us), SECOND)
    sign = -1 if duration_us < 0 else 1
    duration.seconds, duration.nanos = sign * seconds, sign * rest * 1000


def duration_us_of(duration: duration_pb2.Duration) -> int:
    """Microseconds of a Duration. Raises ValueError for one that is out of its bounds."""
    seconds, nanos = duration.seconds, duration.nanos
    if abs(seconds) > DURATION_SECONDS_MAX or abs(nanos) >= 1_000_000_000 or seconds * nanos < 0:
        raise ValueError("the duration is out of its bounds")
    return seconds * SECOND + int(nanos / 1000)


def _words(enum: Any, prefix: str) -> dict[str, int]:
    """Lower-case word of each value but the unspecified one."""
    return {name[len(prefix) :].lower(): number for name, number in enum.items() if number}


STATUS_NUMBERS: dict[str, Any] = _words(enums.ExecutionStatus, "EXECUTION_STATUS_")
MODE_NUMBERS: dict[str, Any] = _words(enums.ExecutionMode, "EXECUTION_MODE_")
PRIORITY_NUMBERS: dict[str, Any] = _words(enums.Priority, "PRIORITY_")
REASON_NUMBERS: dict[str, Any] = _words(enums.StatusReason, "STATUS_REASON_")
WAITING_FOR_NUMBERS: dict[str, Any] = _words(enums.WaitingFor, "WAITING_FOR_")

STATUS_WORDS: dict[int, str] = {number: word for word, number in STATUS_NUMBERS.items()}
MODE_WORDS: dict[int, str] = {number: word for word, number in MODE_NUMBERS.items()}
PRIORITY_WORDS: dict[int, str] = {number: word for word, number in PRIORITY_NUMBERS.items()}

# The contract numbers states as the core does; a test keeps it so.
NODE_STATUS: dict[NodeStatus, Any] = {s: enums.NodeStatus.Value(f"NODE_STATUS_{s.name}") for s in NodeStatus}
