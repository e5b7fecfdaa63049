"""The states of executions and nodes, and which transitions are legal. The docs' diagram is made from these tables."""

from __future__ import annotations

from enum import IntEnum


class ExecutionStatus(IntEnum):
    """State of an execution; the last four are final."""

    PENDING = 1
    RUNNING = 2
    PAUSED = 3
    SUCCESS = 4
    FAILED = 5
    CANCELLED = 6
    TIMEOUT = 7

    @property
    def final(self) -> bool:
        """Whether nothing leaves this state."""
        return self >= ExecutionStatus.SUCCESS

    @property
    def word(self) -> str:
        """The specification's lower-case word, used in CEL, SQL and logs."""
        return self.name.lower()


class NodeStatus(IntEnum):
    """State of a node run; from SUCCESS on final."""

    PENDING = 1
    SCHEDULED = 2
    RUNNING = 3
    WAITING = 4
    RETRYING = 5
    SUCCESS = 6
    FAILED = 7
    TIMEOUT = 8
    SKIPPED = 9
    CANCELLED = 10

    @property
    def final(self) -> bool:
        """Whether nothing leaves this state."""
        return self >= NodeStatus.SUCCESS

    @property
    def word(self) -> str:
        """The specification's lower-case word."""
        return self.name.lower()


_E, _N = ExecutionStatus, NodeStatus

EXECUTION_TRANSITIONS: dict[ExecutionStatus, frozenset[ExecutionStatus]] = {
    _E.PENDING: frozenset({_E.RUNNING, _E.CANCELLED}),
    _E.RUNNING: frozenset({_E.PAUSED, _E.SUCCESS, _E.FAILED, _E.CANCELLED, _E.TIMEOUT}),
    _E.PAUSED: frozenset({_E.RUNNING, _E.CANCELLED}),
    _E.SUCCESS: frozenset(),
    _E.FAILED: frozenset(),
    _E.CANCELLED: frozenset(),
    _E.TIMEOUT: frozenset(),
}

_ENDS = frozenset({_N.SUCCESS, _N.FAILED, _N.TIMEOUT, _N.CANCELLED})
_WORKING = frozenset({_N.RUNNING, _N.WAITING, _N.RETRYING})

NODE_TRANSITIONS: dict[NodeStatus, frozenset[NodeStatus]] = {
    _N.PENDING: frozenset(
        {_N.SCHEDULED, _N.RUNNING, _N.WAITING, _N.SUCCESS, _N.FAILED, _N.SKIPPED, _N.CANCELLED}
    ),
    _N.SCHEDULED: frozenset({_N.RUNNING, _N.WAITING, _N.RETRYING}) | _ENDS,
    _N.RUNNING: (_WORKING - {_N.RUNNING}) | {_N.SCHEDULED} | _ENDS,
    _N.WAITING: (_WORKING - {_N.WAITING}) | {_N.SCHEDULED} | _ENDS,
    _N.RETRYING: (_WORKING - {_N.RETRYING}) | {_N.SCHEDULED} | _ENDS,
    _N.SUCCESS: frozenset(),
    _N.FAILED: frozenset(),
    _N.TIMEOUT: frozenset(),
    _N.SKIPPED: frozenset(),
    _N.CANCELLED: frozenset(),
}

# Open: a node that has begun and not ended. Active: it holds, or waits for, a slot of a runner.
OPEN = frozenset({_N.SCHEDULED, _N.RUNNING, _N.WAITING, _N.RETRYING})
ACTIVE = frozenset({_N.SCHEDULED, _N.RUNNING})


class IllegalTransition(Exception):
    """An event asked for a transition that the tables do not have: a bug, quarantined by the shell."""
