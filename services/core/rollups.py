"""Roll-ups as plain values: counts per minute of what ended, and the cursors that make them exactly once.

Ids are 16 raw bytes, instants and durations microseconds, sketches opaque bytes of a mergeable distribution.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExecutionRollup:
    """Executions that ended within a minute: counts, durations, and a sketch of the durations.

    `minute` is the instant the minute begins. Key: organization, minute, workflow, mode, status.
    """

    organization_id: str
    minute: int
    workflow_id: bytes
    mode: str
    status: str
    count: int
    duration_sum_us: int
    duration_max_us: int
    retries: int
    sketch: bytes


@dataclass(frozen=True, slots=True)
class NodeRollup:
    """Attempts of one node of a workflow within a minute. Key: organization, minute, workflow, node."""

    organization_id: str
    minute: int
    workflow_id: bytes
    node_id: str
    node_type: str
    succeeded: int
    failed: int
    timed_out: int
    retried: int
    lost: int
    duration_sum_us: int
    duration_max_us: int
    cpu_us: int
    memory_max_bytes: int
    sketch: bytes


@dataclass(frozen=True, slots=True)
class CursorMove:
    """A reader has read a session's commits after `after` up to `until`."""

    session: int
    after: int
    until: int
