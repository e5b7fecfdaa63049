"""The one row of a finished execution, made from its last state."""

from __future__ import annotations

from services.adapters.wire.history import encode_error
from services.adapters.wire.snapshots import encode_snapshot
from services.core.records import FinishedExecution
from services.core.state import ExecutionState
from services.core.states import ExecutionStatus, NodeStatus

_FAILED = (NodeStatus.FAILED, NodeStatus.TIMEOUT)


def finished_execution(state: ExecutionState) -> FinishedExecution:
    """Row of an execution whose last event is its end."""
    executed = failed = 0
    for node in state.nodes:
        if node.status is NodeStatus.SUCCESS:
            executed += 1
        elif node.status in _FAILED:
            executed += 1
            failed += 1
    error = encode_error(state.error)
    return FinishedExecution(
        execution_id=state.info.id,
        status=state.status.word,
        completed_at=state.ended_at,
        sequence=state.sequence,
        output=state.output if state.status is ExecutionStatus.SUCCESS else None,
        error=error.SerializeToString() if error is not None else None,
        started_at=state.started_at or None,
        nodes_executed=executed,
        nodes_failed=failed,
        snapshot=encode_snapshot(state),
    )
