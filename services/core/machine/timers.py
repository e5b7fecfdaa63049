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
        case NodeStatus.SCHEDULED:
            if timeouts.schedule_to_start_us is not None:
                at = node.scheduled_at + timeouts.schedule_to_start_us
                heappush(timers, (at, SCHEDULE_TO_START, index, attempt))
            if timeouts.schedule_to_close_us is not None and attempt == 1:
                push_schedule_to_close(state, index, node)
        case NodeStatus.RUNNING:
            if timeouts.start_to_close_us is not None:
                at = node.started_at + timeouts.start_to_close_us + RUNNER_LEASE_US
                heappush(timers, (at, START_TO_CLOSE, index, attempt))
        case NodeStatus.RETRYING:
            heappush(timers, (node.due_at, RETRY, index, attempt))
        case NodeStatus.WAITING:
            heappush(timers, (node.due_at, DELAY, index, attempt))
        case _:
            pass


def push_schedule_to_close(state: ExecutionState, index: int, node: NodeState) -> None:
    """Push the one timer that outlives attempts, when the node has it."""
    limit = state.workflow.nodes[index].timeouts.schedule_to_close_us
    if limit is not None:
        heappush(state.timers, (node.first_scheduled_at + limit, SCHEDULE_TO_CLOSE, index, 0))


def is_current(state: ExecutionState, timer: tuple[int, int, int, int]) -> bool:
    """Whether a timer entry still fits the state it was pushed for.

    A cancelled execution is bounded by its grace; its timeout does not take the end from whoever cancelled it.
    """
    at, kind, index, attempt = timer
    if state.status.final:
        return False
    if kind == EXECUTION_TIMEOUT:
        return not state.grace_until
    if kind == CANCEL_GRACE:
        return at == state.grace_until
    node, timeouts = state.nodes[index], state.workflow.nodes[index].timeouts
    if kind == SCHEDULE_TO_CLOSE:
        return node.status in OPEN
    if node.attempt != attempt:
        return False
    # The instants are compared because an attempt that was given back begins anew under its old number.
    if kind == SCHEDULE_TO_START:
        limit = timeouts.schedule_to_start_us or 0
        return node.status is NodeStatus.SCHEDULED and at == node.scheduled_at + limit
    if kind == START_TO_CLOSE:
        limit = (timeouts.start_to_close_us or 0) + RUNNER_LEASE_US
        return node.status is NodeStatus.RUNNING and at == node.started_at + limit
    status = NodeStatus.RETRYING if kind == RETRY else NodeStatus.WAITING
    return node.status is status and node.due_at == at


def next_wake(state: ExecutionState) -> int | None:
    """Instant of the earliest timer that still means something, or None; drops stale entries on the way."""
    timers = state.timers
    while timers:
        if is_current(state, timers[0]):
            return timers[0][0]
        heappop(timers)
    return None
