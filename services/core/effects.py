"""What the core wants done, imperative. The shell does it after the commit that caused it, never before.

Nothing changes these values once they are made. They are not frozen, because a frozen dataclass costs three times as
much to make and these are made for every event.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DispatchTask:
    """Get this attempt to a runner; the window decides when."""

    node: int
    attempt: int


@dataclass(slots=True)
class CancelTask:
    """Nobody needs this attempt any more: forget it if it waits, tell its runner if it runs."""

    node: int
    attempt: int


@dataclass(slots=True)
class CloseExecution:
    """The execution has ended: write its record, forget its state."""

    status: str


Effect = DispatchTask | CancelTask | CloseExecution
