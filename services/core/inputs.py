"""What may happen to an execution from outside. Late, doubled and foreign inputs are ordinary and change nothing.

Nothing changes these values once they are made. They are not frozen, because a frozen dataclass costs three times as
much to make and these are made for every event.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.errors import NodeError


@dataclass(slots=True)
class Begin:
    """An accepted execution meets its owner."""


@dataclass(slots=True)
class TaskStarted:
    """A runner says that it runs the attempt since `started_at`."""

    node: int
    attempt: int
    runner_id: str
    started_at: int


@dataclass(slots=True)
class TaskSucceeded:
    """A runner says that the attempt has its output (JSON bytes)."""

    node: int
    attempt: int
    output: bytes
    runner_id: str
    started_at: int
    ended_at: int
    cpu_seconds: float = 0.0
    memory_bytes: int = 0


@dataclass(slots=True)
class TaskFailed:
    """A runner says that the attempt failed."""

    node: int
    attempt: int
    error: NodeError
    runner_id: str
    started_at: int
    ended_at: int


@dataclass(slots=True)
class TaskReturned:
    """A draining runner gives the attempt back unrun."""

    node: int
    attempt: int
    runner_id: str


@dataclass(slots=True)
class TaskLost:
    """The lease on the attempt has ended: its runner is dead or cut off."""

    node: int
    attempt: int
    runner_id: str


@dataclass(slots=True)
class TaskRefused:
    """The attempt's task can never be sent (it is too large, say)."""

    node: int
    attempt: int
    error: NodeError


@dataclass(slots=True)
class TimersDue:
    """Time has passed: whatever is due now happens."""


@dataclass(slots=True)
class Cancel:
    """A client asks for the end; `force` ends it without grace."""

    reason: str
    requested_by: str
    force: bool = False


@dataclass(slots=True)
class Abort:
    """The shell must end the execution: its data was refused by the database, say."""

    error: NodeError


Input = (
    Begin
    | TaskStarted
    | TaskSucceeded
    | TaskFailed
    | TaskReturned
    | TaskLost
    | TaskRefused
    | TimersDue
    | Cancel
    | Abort
)
