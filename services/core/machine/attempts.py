"""What runners say of an attempt. Whatever is not about the current attempt of an open node is stale."""

from __future__ import annotations

from dataclasses import replace

from services.core.effects import DispatchTask
from services.core.errors import CANCELLED, POISON, RESOURCE, NodeError
from services.core.events import AttemptLost, AttemptReturned, NodeCancelled, NodeStarted, NodeSucceeded
from services.core.inputs import TaskFailed, TaskLost, TaskRefused, TaskReturned, TaskStarted, TaskSucceeded
from services.core.machine.deciding import Deciding
from services.core.machine.failures import Run, fail_node
from services.core.machine.limits import LOSSES_MAX, OUTPUT_BYTES_MAX
from services.core.machine.ready import schedule
from services.core.machine.successes import choose_edges
from services.core.states import ACTIVE, NodeStatus


def is_current(deciding: Deciding, node: int, attempt: int) -> bool:
    """Whether the attempt is the one that is scheduled or running."""
    nodes = deciding.state.nodes
    return 0 <= node < len(nodes) and nodes[node].attempt == attempt and nodes[node].status in ACTIVE


def started(deciding: Deciding, happened: TaskStarted) -> None:
    """A runner runs the attempt."""
    if not is_current(deciding, happened.node, happened.attempt):
        deciding.stale()
        return
    node = deciding.state.nodes[happened.node]
    if node.returned_by and node.returned_by == happened.runner_id:
        deciding.stale()  # an old word: this runner has given the attempt back since
    elif node.status is NodeStatus.SCHEDULED:
        deciding.emit(NodeStarted(happened.node, happened.attempt, happened.runner_id, happened.started_at))


def succeeded(deciding: Deciding, happened: TaskSucceeded) -> None:
    """The attempt has its output."""
    index = happened.node
    if not is_current(deciding, index, happened.attempt):
        deciding.stale()
        return
    if len(happened.output) > OUTPUT_BYTES_MAX:
        message = f"the output has {len(happened.output)} bytes, more than {OUTPUT_BYTES_MAX}"
        error = NodeError(RESOURCE, message, retryable=False, node=index)
        fail_node(deciding, index, error, _run(happened))
        return
    deciding.emit(
        NodeSucceeded(
            index,
            happened.attempt,
            happened.output,
            choices=choose_edges(deciding, index, happened.output, "out"),
            cpu_seconds=happened.cpu_seconds,
            started_at=happened.started_at,
            ended_at=happened.ended_at,
            runner_id=happened.runner_id,
            memory_bytes=happened.memory_bytes,
        )
    )


def failed(deciding: Deciding, happened: TaskFailed) -> None:
    """The attempt failed."""
    index = happened.node
    if not is_current(deciding, index, happened.attempt):
        deciding.stale()
    elif happened.error.type == CANCELLED and deciding.state.grace_until:
        deciding.emit(NodeCancelled(index, happened.attempt))
    else:
        fail_node(deciding, index, happened.error, _run(happened))


def returned(deciding: Deciding, happened: TaskReturned) -> None:
    """A draining runner gave the attempt back: neither a loss nor an attempt, and the task goes out again.

    A runner repeats itself until it is heard, and the attempt keeps its number: what another has since, or what was
    given back already, is not given back again.
    """
    index, runner = happened.node, happened.runner_id
    if not is_current(deciding, index, happened.attempt) or _is_elsewhere(deciding, index, runner):
        deciding.stale()
    elif deciding.state.grace_until:
        deciding.emit(NodeCancelled(index, happened.attempt))
    elif deciding.state.nodes[index].returned_by != runner:
        deciding.emit(AttemptReturned(index, happened.attempt, runner))
        deciding.want(DispatchTask(index, happened.attempt))


def _is_elsewhere(deciding: Deciding, index: int, runner_id: str) -> bool:
    """Whether another runner is known to run the node's attempt; an empty id stands for whoever has it."""
    node = deciding.state.nodes[index]
    return bool(runner_id) and node.status is NodeStatus.RUNNING and node.runner_id != runner_id


def lost(deciding: Deciding, happened: TaskLost) -> None:
    """The lease on the attempt has ended. Losses count towards POISON, not towards `max_attempts`."""
    index = happened.node
    if not is_current(deciding, index, happened.attempt) or _is_elsewhere(
        deciding, index, happened.runner_id
    ):
        deciding.stale()
        return
    node = deciding.state.nodes[index]
    if deciding.state.grace_until:
        deciding.emit(NodeCancelled(index, happened.attempt))
    elif node.losses + 1 >= LOSSES_MAX:
        message = f"{LOSSES_MAX} runners died while they ran this task"
        error = NodeError(POISON, message, retryable=False, node=index)
        fail_node(deciding, index, error, Run(node.started_at, runner_id=happened.runner_id))
    else:
        deciding.emit(AttemptLost(index, happened.attempt, happened.runner_id))
        schedule(deciding, index)


def refused(deciding: Deciding, happened: TaskRefused) -> None:
    """The attempt's task can never be sent."""
    if not is_current(deciding, happened.node, happened.attempt):
        deciding.stale()
    else:
        fail_node(deciding, happened.node, replace(happened.error, retryable=False))


def _run(happened: TaskSucceeded | TaskFailed) -> Run:
    return Run(happened.started_at, happened.ended_at, happened.runner_id)
