"""The execution itself: its beginning, its timers, its cancellation, its end."""

from __future__ import annotations

from heapq import heappop, heappush

from services.core.effects import CancelTask
from services.core.errors import TIMEOUT, NodeError
from services.core.events import CancelRequested, ExecutionStarted, NodeCancelled
from services.core.inputs import Abort, Cancel
from services.core.machine import timers
from services.core.machine.deciding import Deciding
from services.core.machine.ending import cancelled_error
from services.core.machine.failures import Run, fail_node
from services.core.machine.limits import CANCEL_GRACE_US
from services.core.machine.ready import schedule
from services.core.machine.successes import succeed_node
from services.core.states import ACTIVE, ExecutionStatus, NodeStatus


def begin(deciding: Deciding) -> None:
    """First decision of an accepted execution."""
    state = deciding.state
    if state.status is not ExecutionStatus.PENDING:
        deciding.stale()
        return
    deciding.emit(ExecutionStarted(deciding.now + state.info.timeout_us))


def cancel(deciding: Deciding, happened: Cancel) -> None:
    """No new tasks; running ones are told and given a grace. Repeating it changes nothing, unless it forces."""
    state = deciding.state
    at_once = happened.force or state.status is ExecutionStatus.PENDING
    if not state.grace_until:
        grace_until = deciding.now if at_once else deciding.now + CANCEL_GRACE_US
        deciding.emit(CancelRequested(happened.reason, happened.requested_by, grace_until))
        if not at_once:
            # What was only scheduled is cancelled by the event itself; what runs is told and still counts.
            for index, node in enumerate(state.nodes):
                if node.status is NodeStatus.RUNNING:
                    deciding.want(CancelTask(index, node.attempt))
    if at_once:
        deciding.end("cancelled", error=cancelled_error(state))


def abort(deciding: Deciding, happened: Abort) -> None:
    """The shell cannot go on with this execution."""
    if deciding.state.status is ExecutionStatus.PENDING:
        begin(deciding)
    deciding.end("failed", error=happened.error)


def timers_due(deciding: Deciding) -> None:
    """Everything that is due at `now` happens, in order of its instant."""
    state = deciding.state
    while state.timers and state.timers[0][0] <= deciding.now and not state.status.final:
        timer = heappop(state.timers)
        if timers.is_current(state, timer):
            _due(deciding, timer)


def _due(deciding: Deciding, timer: tuple[int, int, int, int]) -> None:
    state, (_, kind, index, _) = deciding.state, timer
    match kind:
        case timers.EXECUTION_TIMEOUT:
            seconds = state.info.timeout_us / 1_000_000
            error = NodeError(
                TIMEOUT, f"the execution took longer than {seconds:g} s", b"", False, "execution"
            )
            deciding.end("timeout", error=error)
        case timers.CANCEL_GRACE:
            for other, node in enumerate(state.nodes):
                if node.status in ACTIVE:
                    deciding.want(CancelTask(other, node.attempt))
                    deciding.emit(NodeCancelled(other, node.attempt))
        case timers.RETRY:
            _retry_due(deciding, index)
        case timers.DELAY:
            succeed_node(deciding, index, b"")
        case _:
            _timed_out(deciding, kind, index)


def _retry_due(deciding: Deciding, index: int) -> None:
    state = deciding.state
    if state.workflow.max_parallel and state.active >= state.workflow.max_parallel:
        heappush(state.ready_tasks, (state.workflow.nodes[index].position, index))
    else:
        schedule(deciding, index)


_TIMEOUT_NAMES = {
    timers.SCHEDULE_TO_CLOSE: "schedule_to_close",
    timers.SCHEDULE_TO_START: "schedule_to_start",
    timers.START_TO_CLOSE: "start_to_close",
}


def _timed_out(deciding: Deciding, kind: int, index: int) -> None:
    node, compiled = deciding.state.nodes[index], deciding.state.workflow.nodes[index]
    name = _TIMEOUT_NAMES[kind]
    limit = getattr(compiled.timeouts, name + "_us")
    if node.status in ACTIVE:
        deciding.want(CancelTask(index, node.attempt))
    error = NodeError(
        TIMEOUT,
        f"{name} of {limit / 1_000_000:g} s is over",
        b"",
        retryable=kind == timers.START_TO_CLOSE,
        timeout=name,
        node=index,
    )
    run = Run(node.started_at, runner_id=node.runner_id) if node.status is NodeStatus.RUNNING else Run()
    fail_node(deciding, index, error, run)
