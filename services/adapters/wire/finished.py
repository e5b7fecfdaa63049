"""The one row of a finished execution, made from its last state."""

from __future__ import annotations

from services.adapters.wire.executions import put_metrics
from services.adapters.wire.history import decode_error, encode_error
from services.adapters.wire.snapshots import encode_snapshot
from services.core import views
from services.core.errors import NodeError
from services.core.records import FinishedExecution
from services.core.state import ExecutionState
from services.core.states import ExecutionStatus
from weconnect.executions.v1 import execution_pb2
from weconnect.internal.v1 import history_pb2


def finished_execution(state: ExecutionState) -> FinishedExecution:
    """Row of an execution whose last event is its end."""
    counts = views.metrics(state)
    metrics = execution_pb2.ExecutionMetrics()
    put_metrics(metrics, counts)
    error = encode_error(state.error)
    return FinishedExecution(
        execution_id=state.info.id,
        status=state.status.word,
        completed_at=state.ended_at,
        sequence=state.sequence,
        output=state.output if state.status is ExecutionStatus.SUCCESS else None,
        error=error.SerializeToString() if error is not None else None,
        started_at=state.started_at or None,
        nodes_executed=counts.nodes_executed,
        nodes_failed=counts.nodes_failed,
        metrics=metrics.SerializeToString(),
        snapshot=encode_snapshot(state),
    )


def decode_stored_error(data: bytes) -> NodeError:
    """The error of a finished execution's row."""
    return decode_error(history_pb2.Error.FromString(data))
