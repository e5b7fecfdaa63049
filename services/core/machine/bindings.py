"""What expressions see: `input`, `nodes.<id>`, `vars`, `execution`, `now`, as plain values or as JSON for a task.

A node sees the variables written by nodes upstream of it, in topological order, never those of a parallel branch.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from services.core.errors import ExpressionError, NodeError
from services.core.graph import CompiledNode, References
from services.core.ids import uuid_text
from services.core.machine.instants import rfc3339
from services.core.state import ExecutionState
from services.core.states import NodeStatus

# Longer views are made anew for each task rather than held twice.
SPLICED_BYTES_MAX = 4096


def bindings(
    state: ExecutionState, references: References, now: int, viewer: CompiledNode | None = None
) -> dict[str, Any]:
    """Plain values of the names in `references`, for an expression decided at `now`.

    Variables are those that `viewer` sees, or all as they stand when there is no viewer.
    """
    values: dict[str, Any] = {}
    if references.input:
        values["input"] = state.values.input()
    for index in references.nodes:
        values["nodes." + state.workflow.nodes[index].id] = node_view(state, index)
    if references.vars:
        values["vars"] = all_vars(state) if viewer is None else visible_vars(state, viewer)
    if references.execution:
        values["execution"] = execution_view(state)
    if references.now:
        values["now"] = rfc3339(now)
    return values


def node_view(state: ExecutionState, index: int) -> dict[str, Any]:
    """`nodes.<id>` of one node; the output is null when no text of the version refers to it."""
    node = state.nodes[index]
    output = None
    if node.status is NodeStatus.SUCCESS and index in state.workflow.retained:
        output = state.values.output(index)
    return {
        "output": output,
        "status": node.status.word,
        "error": error_view(state, node.error),
        "attempts": node.attempt,
    }


def error_view(state: ExecutionState, error: NodeError | None) -> dict[str, Any] | None:
    """`nodes.<id>.error`: type, message, details and whether it may be retried."""
    if error is None:
        return None
    details = None
    if error.details:
        # Details are whatever a handler gave; what is no JSON must not fail those who only ask for the type.
        with suppress(ExpressionError):
            details = state.values.loads(error.details)
    return {"type": error.type, "message": error.message, "details": details, "retryable": error.retryable}


def execution_view(state: ExecutionState) -> dict[str, Any]:
    """`execution`."""
    info = state.info
    return {
        "id": uuid_text(info.id),
        "workflow": info.workflow_name,
        "version": info.version,
        "mode": info.mode,
        "started_at": rfc3339(state.started_at),
        "labels": info.labels,
    }


def visible_vars(state: ExecutionState, compiled: CompiledNode) -> dict[str, Any]:
    """Variables that a node sees: the definition's, overlaid by the writers upstream of it, its own writes last."""
    visible = dict(state.workflow.initial_vars)
    for writer in (*compiled.var_writers, compiled.index):
        if state.nodes[writer].vars:
            visible.update(state.values.loads(state.nodes[writer].vars))
    return visible


def all_vars(state: ExecutionState) -> dict[str, Any]:
    """Variables as they stand: every writer's, in topological order."""
    standing = dict(state.workflow.initial_vars)
    for index in state.workflow.order:
        if state.nodes[index].vars:
            standing.update(state.values.loads(state.nodes[index].vars))
    return standing


def task_bindings(state: ExecutionState, index: int, now: int) -> bytes:
    """JSON object of what a node's parameters refer to, spliced from stored bytes without parsing them."""
    compiled = state.workflow.nodes[index]
    references = compiled.references
    parts: list[bytes] = []
    if references.input:
        parts.append(b'"input":' + (state.values.input_json or b"null"))
    parts.extend(_node_json(state, other) for other in references.nodes)
    if references.vars:
        parts.append(b'"vars":' + (state.nodes[index].task_vars or state.workflow.initial_vars_json))
    if references.execution:
        parts.append(b'"execution":' + state.values.dumps(execution_view(state)))
    if references.now:
        parts.append(b'"now":"' + rfc3339(now).encode() + b'"')
    return b"{" + b",".join(parts) + b"}"


def _node_json(state: ExecutionState, index: int) -> bytes:
    """`"nodes.<id>":{…}` of one node; kept for a node that succeeded, which never changes again."""
    node, values = state.nodes[index], state.values
    spliced = values.spliced.get(index)
    if spliced is not None:
        return spliced
    succeeded = node.status is NodeStatus.SUCCESS
    output = (values.outputs[index] if succeeded and index in state.workflow.retained else b"") or b"null"
    error = values.dumps(error_view(state, node.error)) if node.error else b"null"
    head = b'"nodes.' + state.workflow.nodes[index].id.encode() + b'":{"output":'
    tail = b',"status":"%b","error":%b,"attempts":%d}' % (node.status.word.encode(), error, node.attempt)
    text = head + output + tail
    if succeeded and len(text) <= SPLICED_BYTES_MAX:
        values.spliced[index] = text
    return text
