"""How an execution comes to its end by itself: its output is built, or it cannot be."""

from __future__ import annotations

from services.core.errors import CANCELLED, EXPRESSION, RESOURCE, ExpressionError, NodeError
from services.core.machine.deciding import Deciding
from services.core.machine.limits import OUTPUT_BYTES_MAX
from services.core.state import ExecutionState


def cancelled_error(state: ExecutionState) -> NodeError:
    """The error of a cancelled execution."""
    return NodeError(CANCELLED, state.cancel_reason or "cancelled on request", retryable=False)


def finish(deciding: Deciding) -> None:
    """Nothing can or need run any more: SUCCESS when the output can be built."""
    state = deciding.state
    template = state.workflow.output
    if template is None:
        deciding.end("success")
        return
    try:
        output = state.values.dumps(template.resolve(deciding.see(template.references)))
    except ExpressionError as error:
        deciding.end("failed", error=NodeError(EXPRESSION, f"output: {error}", retryable=False))
        return
    if len(output) > OUTPUT_BYTES_MAX:
        message = f"the output has {len(output)} bytes, more than {OUTPUT_BYTES_MAX}"
        deciding.end("failed", error=NodeError(RESOURCE, message, retryable=False))
        return
    deciding.end("success", output)
