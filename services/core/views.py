"""What readers are shown of an execution's state: node runs with their attempts, progress, metrics.

Pure functions of a state, live or folded from rows. Instants are microseconds since the epoch; `None` means that a
field does not apply. Outputs are not here: `output_sequence` names the history event that holds them.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.errors import NodeError
from services.core.state import ExecutionState, NodeState, failed_status
from services.core.states import OPEN, NodeStatus

# Open nodes named in a progress; the rest is only counted.
OPEN_NODES_MAX = 100

# What a node in these states waits for; a WAITING one says it itself.
WAITING_FOR_RUNNER = "runner"
WAITING_FOR_TIMER = "timer"
# Ready, and held back by `max_parallel_nodes` or the turn of a SEQUENTIAL workflow.
WAITING_FOR_CONCURRENCY = "concurrency"

_S = NodeStatus
EXECUTED = frozenset({_S.SUCCESS, _S.FAILED, _S.TIMEOUT})
FAILED = frozenset({_S.FAILED, _S.TIMEOUT})


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt. `status` is SCHEDULED, RUNNING, SUCCESS, FAILED, TIMEOUT or CANCELLED (also of a lost one).

    `retry_delay_us`: delay before the next attempt, jitter included; `None` when none follows. `lost`: its runner
    died or was cut off, so it has no error and uses up none of `max_attempts`.
    """

    attempt: int
    status: NodeStatus
    started_at: int | None = None
    ended_at: int | None = None
    error: NodeError | None = None
    retry_delay_us: int | None = None
    runner_id: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """What a node waits for: timer, signal, approval, breaker, concurrency, rate, cache or runner.

    `until`: when its timer, next attempt or `schedule_to_start` is due, `None` when nothing bounds it.
    """

    waiting_for: str
    since: int | None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class NodeRunView:
    """One node in one execution, all its attempts, oldest first.

    `scheduled_at` and `started_at` are those of its first attempt. `error` is the final one, or the last while the
    node is open. `max_attempts` is 0 for unlimited and for nodes decided in the scheduler. `output_sequence` is the
    history sequence of the event with its output, in SUCCESS only.
    """

    index: int
    id: str
    name: str
    type: str
    status: NodeStatus
    attempt: int
    attempts: tuple[AttemptView, ...]
    max_attempts: int
    losses: int
    scheduled_at: int | None
    started_at: int | None
    ended_at: int | None
    wait: Wait | None
    error: NodeError | None
    port: str
    continued: bool
    output_sequence: int | None
    cpu_seconds: float
    memory_bytes: int

    @property
    def duration_us(self) -> int | None:
        """From `started_at` to `ended_at`, once it has ended."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0, self.ended_at - self.started_at)


@dataclass(frozen=True, slots=True)
class OpenNodeView:
    """A node that runs or waits, since when it is in that status, and what for."""

    index: int
    id: str
    status: NodeStatus
    attempt: int
    since: int | None
    wait: Wait | None


@dataclass(frozen=True, slots=True)
class ProgressView:
    """How far an execution is. `running` counts SCHEDULED and RUNNING, `waiting` WAITING and RETRYING nodes.

    `percent` is rounded down and 100 only at the end; `open_nodes` names at most 100.
    """

    total: int
    done: int
    running: int
    waiting: int
    failed: int
    percent: int
    open_nodes: tuple[OpenNodeView, ...]


@dataclass(frozen=True, slots=True)
class MetricsView:
    """Counts of node runs; mean time from start to end of those in SUCCESS, FAILED or TIMEOUT.

    `memory_usage_bytes` is the highest of the sampled attempts, `cpu_usage_seconds` their sum; 0: none sampled.
    """

    total_nodes: int
    successful_nodes: int
    failed_nodes: int
    skipped_nodes: int
    average_node_execution_time_ms: float
    memory_usage_bytes: int
    cpu_usage_seconds: float

    @property
    def nodes_executed(self) -> int:
        """Node runs that ended in SUCCESS, FAILED or TIMEOUT."""
        return self.successful_nodes + self.failed_nodes

    @property
    def nodes_failed(self) -> int:
        """Node runs that ended in FAILED or TIMEOUT."""
        return self.failed_nodes


def node_run(state: ExecutionState, index: int) -> NodeRunView:
    """One node run; a node whose turn has not come is PENDING, without attempts."""
    node, compiled = state.nodes[index], state.workflow.nodes[index]
    return NodeRunView(
        index=index,
        id=compiled.id,
        name=compiled.definition.name or compiled.id,
        type=compiled.type,
        status=node.status,
        attempt=node.attempt,
        attempts=_attempts(node),
        max_attempts=0 if compiled.local else compiled.retry.max_attempts,
        losses=node.losses,
        scheduled_at=node.first_scheduled_at or None,
        started_at=_first_start(node),
        ended_at=node.ended_at or None,
        wait=_wait(state, index, node),
        error=node.error,
        port=node.port if node.status is _S.SUCCESS else "",
        continued=node.continued,
        output_sequence=node.ended_sequence if node.status is _S.SUCCESS else None,
        cpu_seconds=node.cpu_seconds,
        memory_bytes=node.memory_bytes,
    )


def node_runs(state: ExecutionState) -> list[NodeRunView]:
    """All node runs, in the order of the definition."""
    return [node_run(state, index) for index in range(len(state.nodes))]


def progress(state: ExecutionState) -> ProgressView:
    """Progress of an execution in any state."""
    running = waiting = failed = 0
    open_nodes: list[OpenNodeView] = []
    for index, node in enumerate(state.nodes):
        status = node.status
        if status in FAILED:
            failed += 1
        elif status in OPEN:
            if status in (_S.SCHEDULED, _S.RUNNING):
                running += 1
            else:
                waiting += 1
            if len(open_nodes) < OPEN_NODES_MAX:
                open_nodes.append(_open_node(state, index, node))
    total = len(state.nodes)
    if state.status.final:
        percent = 100
    else:
        percent = min(99, 100 * state.finished // total) if total else 0
    return ProgressView(total, state.finished, running, waiting, failed, percent, tuple(open_nodes))


def metrics(state: ExecutionState) -> MetricsView:
    """Metrics of an execution as it stands."""
    successful = failed = skipped = timed = time_us = memory = 0
    cpu = 0.0
    for node in state.nodes:
        status = node.status
        successful += status is _S.SUCCESS
        failed += status in FAILED
        skipped += status is _S.SKIPPED
        memory = max(memory, node.memory_bytes)
        cpu += node.cpu_seconds
        if status in EXECUTED and (start := _first_start(node)) is not None:
            timed += 1
            time_us += max(0, node.ended_at - start)
    average = time_us / timed / 1_000 if timed else 0.0
    return MetricsView(len(state.nodes), successful, failed, skipped, average, memory, cpu)


def _open_node(state: ExecutionState, index: int, node: NodeState) -> OpenNodeView:
    wait = _wait(state, index, node)
    since = wait.since if wait is not None else node.started_at or None
    return OpenNodeView(index, state.workflow.nodes[index].id, node.status, node.attempt, since, wait)


def _wait(state: ExecutionState, index: int, node: NodeState) -> Wait | None:
    match node.status:
        case _S.SCHEDULED:
            timeouts = state.workflow.nodes[index].timeouts
            bound = timeouts.schedule_to_start_us
            until = node.scheduled_at + bound if bound is not None else None
            return Wait(WAITING_FOR_RUNNER, node.scheduled_at, until)
        case _S.RETRYING:
            since = node.retries[-1].ended_at if node.retries else None
            return Wait(WAITING_FOR_TIMER, since, node.due_at)
        case _S.WAITING:
            return Wait(node.waiting_for, node.started_at, node.due_at or None)
        case _S.PENDING if node.decided:
            return Wait(WAITING_FOR_CONCURRENCY, None)
        case _:
            return None


def _attempts(node: NodeState) -> tuple[AttemptView, ...]:
    """Attempts that were followed by another, then the current or last one."""
    if not node.attempt:
        return ()
    records = node.retries or []
    views = [
        AttemptView(
            record.attempt,
            _S.CANCELLED if record.error is None else failed_status(record.error),
            record.started_at or None,
            record.ended_at,
            record.error,
            None if record.lost else record.delay_us,
            record.runner_id,
            record.lost,
        )
        for record in records
    ]
    if not records or records[-1].attempt != node.attempt:
        status = node.status
        views.append(
            AttemptView(
                node.attempt,
                status,
                node.started_at or None,
                node.ended_at or None,
                node.error if status in FAILED else None,
                None,
                node.runner_id,
            )
        )
    return tuple(views)


def _first_start(node: NodeState) -> int | None:
    for record in node.retries or ():
        if record.started_at:
            return record.started_at
    return node.started_at or None
