"""Which timers a node's state implies, and which entries of the timer heap still mean something.

Timers are derived from state, never recorded: every change of a node's status pushes what follows from it, and an
entry that no longer fits its node is stale. `start_to_close` is kept by the runner; the owner keeps it one lease
later, for runners that have lost their minds.
"""

from __future__ import annotations

from heapq import heappop, heappush

from services.core.state import ExecutionState, NodeState
from services.core.states import OPEN, NodeStatus
from services.core.units import SECOND

RUNNER_LEASE_US = 15 * SECOND

# Kinds, in the order in which timers of the same instant are handled.
EXECUTION_TIMEOUT = 0
CANCEL_GRACE = 1
SCHEDULE_TO_CLOSE = 2
SCHEDULE_TO_START = 3
START_TO_CLOSE = 4
RETRY = 5
DELAY = 6

EXECUTION = -1


def push_timers(state: ExecutionState, index: int, node: NodeState) -> None:
    """Push the timers that the node's present status implies."""
    timeouts = state.workflow.nodes[index].timeouts
    timers, attempt = state.timers, node.attempt
    match node.status:
        case NodeStatus.SCHEDULED if timeouts is not None:
            if timeouts.schedule_to_start_us is not None:
                heappush(timers, (node.scheduled_at + timeouts.schedule_to_start_us, SCHEDULE_TO_START, index, attempt))
            if timeouts.schedule_to_close_us is not None and attempt == 1:
                at = node.first_scheduled_at + timeouts.schedule_to_close_us
                heappush(timers, (at, SCHEDULE_TO_CLOSE, index, 0))
        case NodeStatus.RUNNING if timeouts is not None and timeouts.start_to_close_us is not None:
            at = node.started_at + timeouts.start_to_close_us + RUNNER_LEASE_US
            heappush(timers, (at, START_TO_CLOSE, index, attempt))
        case NodeStatus.RETRYING:
            heappush(timers, (node.due_at, RETRY, index, attempt))
        case NodeStatus.WAITING:
            heappush(timers, (node.due_at, DELAY, index, attempt))
        case _:
            pass


def is_current(state: ExecutionState, timer: tuple[int, int, int, int]) -> bool:
    """Whether a timer entry still fits the state it was pushed for."""
    at, kind, index, attempt = timer
    if state.status.final:
        return False
    if kind == EXECUTION_TIMEOUT:
        return at == state.deadline_at
    if kind == CANCEL_GRACE:
        return at == state.grace_until
    node = state.nodes[index]
    match kind:
        case 2:  # SCHEDULE_TO_CLOSE
            return node.status in OPEN
        case 3:  # SCHEDULE_TO_START
            return node.status is NodeStatus.SCHEDULED and node.attempt == attempt
        case 4:  # START_TO_CLOSE
            return node.status is NodeStatus.RUNNING and node.attempt == attempt
        case 5:  # RETRY
            return node.status is NodeStatus.RETRYING and node.attempt == attempt and node.due_at == at
        case _:  # DELAY
            return node.status is NodeStatus.WAITING and node.due_at == at


def next_wake(state: ExecutionState) -> int | None:
    """Instant of the earliest timer that still means something, or None; drops stale entries on the way."""
    timers = state.timers
    while timers:
        if is_current(state, timers[0]):
            return timers[0][0]
        heappop(timers)
    return None
