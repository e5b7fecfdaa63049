"""Executions, node runs, progress and log lines as the public contract shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.adapters.wire.failures import put_execution_error, put_node_error
from services.adapters.wire.json_values import put_struct, put_value
from services.adapters.wire.scalars import (
    MODE_NUMBERS,
    NODE_STATUS,
    PRIORITY_NUMBERS,
    REASON_NUMBERS,
    STATUS_NUMBERS,
    WAITING_FOR_NUMBERS,
    set_duration,
    set_instant,
)
from services.core.errors import NodeError
from services.core.ids import uuid_text
from services.core.records import ExecutionRecord, LogRow
from services.core.units import KIB, MILLISECOND
from services.core.views import AttemptView, MetricsView, NodeRunView, ProgressView
from weconnect.executions.v1 import execution_pb2 as pb

# Payloads over this are left out of VIEW_FULL; their size says so.
PAYLOAD_SHOWN_BYTES_MAX = 64 * KIB


@dataclass(frozen=True, slots=True)
class Blame:
    """Why an execution did not succeed, and the node to blame if there is one."""

    error: NodeError
    node_id: str = ""
    attempt: int = 0
    max_attempts: int = 0
    requested_by: str = ""


@dataclass(frozen=True, slots=True)
class ShownExecution:
    """An execution as it stands, ready to be written: the record completed by what was folded.

    `context` is the JSON object of its variables; `metrics` wins over those of the record.
    """

    record: ExecutionRecord
    context: bytes = b""
    blame: Blame | None = None
    metrics: MetricsView | None = None
    retried_by: bytes | None = None


def execution_message(
    shown: ShownExecution, *, full: bool = True, exact: bool = False, payload_bytes_max: int | None = None
) -> pb.Execution:
    """The message; `full` has payloads, those up to `payload_bytes_max` (None: all)."""
    record, start = shown.record, shown.record.start
    execution_id, workflow_id = uuid_text(start.execution_id), uuid_text(start.workflow_id)
    message = pb.Execution(
        id=execution_id,
        organization_id=start.organization_id,
        user_id=start.user_id,
        workflow_id=workflow_id,
        workflow_name=start.workflow_name,
        workflow_version=start.version,
        status=STATUS_NUMBERS[record.status],
        status_reason=REASON_NUMBERS.get(record.status_reason.lower(), 0),
        mode=MODE_NUMBERS.get(start.mode, 0),
        priority=PRIORITY_NUMBERS.get(start.priority, 0),
        labels=start.labels,
        retry_count=start.retry_count,
        root_execution_id=uuid_text(start.root_execution_id),
        nodes_executed=record.nodes_executed,
        nodes_failed=record.nodes_failed,
        sequence=record.sequence,
    )
    _put_links(message, shown)
    _put_times(message, record)
    if start.input:
        message.input_size_bytes = len(start.input)
    if record.output:
        message.output_size_bytes = len(record.output)
    if shown.blame is not None:
        blame = shown.blame
        put_execution_error(
            message.error,
            blame.error,
            execution_id=execution_id,
            workflow_id=workflow_id,
            failed_node_id=blame.node_id,
            attempt=blame.attempt,
            max_attempts=blame.max_attempts,
            requested_by=blame.requested_by,
        )
    if shown.metrics is not None:
        put_metrics(message.metrics, shown.metrics)
    elif record.metrics:
        message.metrics.MergeFromString(record.metrics)
    if full:
        _put_payloads(message, shown, exact, payload_bytes_max)
    return message


def _put_links(message: pb.Execution, shown: ShownExecution) -> None:
    start = shown.record.start
    if start.retry_of_execution_id:
        message.retry_of_execution_id = uuid_text(start.retry_of_execution_id)
    if start.rollback_of_execution_id:
        message.rollback_of_execution_id = uuid_text(start.rollback_of_execution_id)
    if start.parent_execution_id:
        message.parent_execution_id = uuid_text(start.parent_execution_id)
    if start.schedule_id:
        message.schedule_id = uuid_text(start.schedule_id)
    if start.template_id:
        message.template_id = uuid_text(start.template_id)
    if shown.retried_by:
        message.retried_by_execution_id = uuid_text(shown.retried_by)


def _put_times(message: pb.Execution, record: ExecutionRecord) -> None:
    start = record.start
    set_instant(message.created_at, start.created_at)
    set_duration(message.timeout, start.timeout_us)
    if record.started_at:
        set_instant(message.started_at, record.started_at)
    if record.completed_at:
        set_instant(message.completed_at, record.completed_at)
        began = record.started_at or start.created_at
        message.duration_ms = max(record.completed_at - began, 0) // MILLISECOND


def _put_payloads(
    message: pb.Execution, shown: ShownExecution, exact: bool, payload_bytes_max: int | None
) -> None:
    for field, data in (
        ("input", shown.record.start.input),
        ("output", shown.record.output),
        ("context", shown.context),
    ):
        if data and data != b"null" and (payload_bytes_max is None or len(data) <= payload_bytes_max):
            put_struct(message, field, data, exact=exact)


def put_metrics(message: pb.ExecutionMetrics, metrics: MetricsView) -> None:
    """Write counts and costs; a finished execution's row keeps them in this form."""
    message.total_nodes = metrics.total_nodes
    message.successful_nodes = metrics.successful_nodes
    message.failed_nodes = metrics.failed_nodes
    message.skipped_nodes = metrics.skipped_nodes
    message.average_node_execution_time_ms = metrics.average_node_execution_time_ms
    message.memory_usage_bytes = metrics.memory_usage_bytes
    message.cpu_usage_seconds = metrics.cpu_usage_seconds


def progress_message(view: ProgressView) -> pb.ExecutionProgress:
    """How far an execution is."""
    message = pb.ExecutionProgress(
        nodes_total=view.total,
        nodes_done=view.done,
        nodes_running=view.running,
        nodes_waiting=view.waiting,
        nodes_failed=view.failed,
        percent=view.percent,
    )
    for node in view.open_nodes:
        shown = message.open_nodes.add(node_id=node.id, status=NODE_STATUS[node.status], attempt=node.attempt)
        if node.since:
            set_instant(shown.since, node.since)
        if node.wait is not None:
            shown.waiting_for = WAITING_FOR_NUMBERS.get(node.wait.waiting_for, 0)
            if node.wait.until:
                set_instant(shown.until, node.wait.until)
    return message


def node_run_message(
    view: NodeRunView,
    execution_id: str,
    *,
    output: bytes | None = None,
    output_bytes: int = 0,
    exact: bool = False,
) -> pb.NodeRun:
    """One node run; `output` is given where it is shown, `output_bytes` wherever it is known."""
    message = pb.NodeRun(
        execution_id=execution_id,
        node_id=view.id,
        node_name=view.name,
        node_type=view.type,
        status=NODE_STATUS[view.status],
        attempt=view.attempt,
        port=view.port,
        continued=view.continued,
        losses=view.losses,
        max_attempts=view.max_attempts,
        cpu_usage_seconds=view.cpu_seconds,
        memory_usage_bytes=view.memory_bytes,
        output_size_bytes=output_bytes,
    )
    for attempt in view.attempts:
        _put_attempt(message.attempts.add(), attempt, exact)
    if view.scheduled_at:
        set_instant(message.scheduled_at, view.scheduled_at)
    if view.started_at:
        set_instant(message.started_at, view.started_at)
    if view.ended_at:
        set_instant(message.completed_at, view.ended_at)
        if view.duration_us is not None:
            message.duration_ms = view.duration_us // MILLISECOND
    if view.wait is not None:
        message.waiting_for = WAITING_FOR_NUMBERS.get(view.wait.waiting_for, 0)
        if view.wait.since:
            set_instant(message.waiting_since, view.wait.since)
        if view.wait.until:
            set_instant(message.waiting_until, view.wait.until)
    if view.error is not None:
        put_node_error(message.error, view.error, exact=exact)
    if output:
        put_value(message, "output", output, exact=exact)
    return message


def _put_attempt(message: pb.NodeAttempt, view: AttemptView, exact: bool) -> None:
    message.attempt, message.status = view.attempt, NODE_STATUS[view.status]
    message.runner_id, message.lost = view.runner_id, view.lost
    if view.started_at:
        set_instant(message.started_at, view.started_at)
    if view.ended_at:
        set_instant(message.completed_at, view.ended_at)
    if view.error is not None:
        put_node_error(message.error, view.error, exact=exact)
    if view.retry_delay_us is not None:
        set_duration(message.retry_delay, view.retry_delay_us)


def log_message(row: LogRow, execution_id: str, *, exact: bool = False) -> pb.ExecutionLog:
    """One log line."""
    level: Any = row.level
    message = pb.ExecutionLog(
        execution_id=execution_id,
        sequence=row.sequence,
        node_id=row.node_id,
        node_name=row.node_name,
        node_type=row.node_type,
        attempt=row.attempt,
        level=level,
        message=row.message.decode("utf-8", "replace"),
        execution_step=row.execution_step,
    )
    set_instant(message.timestamp, row.at)
    if row.data:
        put_value(message, "data", row.data, exact=exact)
    return message
