"""Errors of nodes and executions as readers see them: `NodeError`, and google.rpc.Status for an execution's own."""

from __future__ import annotations

from typing import Any

from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from services.adapters.wire.json_values import parse_json, put_value, value_of
from services.core import errors
from services.core.errors import NodeError
from weconnect.executions.v1 import execution_pb2 as pb

DOMAIN = "executions.weconnect"
DETAILS_BYTES_MAX = 64 * 1024

# Codes of google.rpc.Code.
_CANCELLED, _UNKNOWN, _INVALID, _DEADLINE, _EXHAUSTED, _INTERNAL, _UNAVAILABLE = 1, 2, 3, 4, 8, 13, 14
_CODES = {
    errors.VALIDATION: _INVALID,
    errors.NODE_EXECUTION: _UNKNOWN,
    errors.NETWORK: _UNAVAILABLE,
    errors.TIMEOUT: _DEADLINE,
    errors.RESOURCE: _EXHAUSTED,
    errors.EXPRESSION: _INVALID,
    errors.CIRCUIT_OPEN: _UNAVAILABLE,
    errors.CANCELLED: _CANCELLED,
    errors.POISON: _INTERNAL,
}


def put_node_error(message: pb.NodeError, error: NodeError, *, exact: bool) -> None:
    """Write an error into a NodeError field."""
    message.type, message.message = error.type, _clean(error.message)
    message.retryable, message.timeout = error.retryable, error.timeout
    if error.details:
        put_value(message, "details", error.details, exact=exact)


def error_type_word(error_type: str) -> str:
    """The specification's word: `node_execution_error`; a handler's own type stays as it is."""
    return f"{error_type.lower()}_error" if error_type in _CODES else error_type


def put_execution_error(
    status: Any,
    error: NodeError,
    *,
    execution_id: str,
    workflow_id: str,
    failed_node_id: str = "",
    attempt: int = 0,
    max_attempts: int = 0,
    requested_by: str = "",
) -> None:
    """Write an execution's error into a google.rpc.Status field, in the specification's error format."""
    status.code, status.message = _CODES.get(error.type, _UNKNOWN), _clean(error.message)
    metadata = {
        "executionId": execution_id,
        "workflowId": workflow_id,
        "errorType": error_type_word(error.type),
        "retryable": "true" if error.retryable else "false",
    }
    if failed_node_id:
        metadata["failedNodeId"] = failed_node_id
        metadata["retryCount"] = str(max(attempt - 1, 0))
        metadata["maxRetries"] = str(max(max_attempts - 1, 0))
    if error.timeout:
        metadata["timeout"] = error.timeout
    if requested_by:
        metadata["requestedBy"] = requested_by
    info = error_details_pb2.ErrorInfo(reason=error.type, domain=DOMAIN, metadata=metadata)
    status.details.add().Pack(info)
    if error.details and len(error.details) <= DETAILS_BYTES_MAX:
        status.details.add().Pack(value_of(parse_json(error.details)))


def _clean(text: str) -> str:
    """Text that protobuf takes: what came from outside may hold lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
