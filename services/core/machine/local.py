"""Nodes decided in the scheduler, one function a type: condition, switch, merge, set, delay, noop, fail, end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.core.definition.duration import duration_us
from services.core.errors import EXPRESSION, NODE_EXECUTION, RESOURCE, ExpressionError, NodeError
from services.core.events import EdgeOutcome, NodeSucceeded, NodeWaiting
from services.core.graph import CompiledNode
from services.core.machine.conditions import holds
from services.core.machine.deciding import Deciding
from services.core.machine.ending import finish
from services.core.machine.failures import fail_node
from services.core.machine.instants import parse_rfc3339
from services.core.machine.limits import OUTPUT_BYTES_MAX
from services.core.machine.successes import choose_edges, succeed_node
from services.core.state import ExecutionState
from services.core.states import NodeStatus


def run(deciding: Deciding, index: int) -> None:
    """Decide one node whose type needs no runner; an error in an expression fails it as EXPRESSION."""
    compiled = deciding.state.workflow.nodes[index]
    try:
        _TYPES[compiled.type](deciding, compiled)
    except ExpressionError as error:
        fail_node(deciding, index, NodeError(EXPRESSION, str(error), retryable=False, node=index))


def _noop(deciding: Deciding, compiled: CompiledNode) -> None:
    succeed_node(deciding, compiled.index, b"")


def _condition(deciding: Deciding, compiled: CompiledNode) -> None:
    expression = compiled.condition
    assert expression is not None
    answer = "true" if holds(expression, deciding.see(expression.references, compiled)) else "false"
    succeed_node(deciding, compiled.index, answer.encode(), port=answer)


def _switch(deciding: Deciding, compiled: CompiledNode) -> None:
    port = compiled.default_port
    for case, expression in compiled.cases:
        if holds(expression, deciding.see(expression.references, compiled)):
            port = case
            break
    succeed_node(deciding, compiled.index, deciding.state.values.dumps(port), port=port)


def _merge(deciding: Deciding, compiled: CompiledNode) -> None:
    state = deciding.state
    sources = _taken_sources(state, compiled)
    mode = (compiled.definition.parameters or {}).get("mode", "BY_NODE")
    if mode == "FIRST":
        first = min(sources, key=lambda source: state.nodes[source].ended_sequence, default=None)
        succeed_node(deciding, compiled.index, b"" if first is None else _output_json(state, first))
        return
    outputs = [_output_json(state, source) or b"null" for source in sources]
    if mode == "APPEND":
        merged = b"[" + b",".join(outputs) + b"]"
    else:
        names = [state.values.dumps(state.workflow.nodes[source].id) for source in sources]
        merged = b"{" + b",".join(n + b":" + o for n, o in zip(names, outputs, strict=True)) + b"}"
    succeed_node(deciding, compiled.index, merged)


def _taken_sources(state: ExecutionState, compiled: CompiledNode) -> list[int]:
    """Sources of the edges that are TAKEN, each once, in the order of the definition's edges."""
    taken = EdgeOutcome.TAKEN
    sources = (state.workflow.edges[edge].source for edge in compiled.incoming if state.edges[edge] == taken)
    return list(dict.fromkeys(sources))


def _output_json(state: ExecutionState, index: int) -> bytes:
    return state.values.outputs[index] if state.nodes[index].status is NodeStatus.SUCCESS else b""


def _set(deciding: Deciding, compiled: CompiledNode) -> None:
    written: dict[str, Any] = {
        name: template.resolve(deciding.see(template.references, compiled))
        for name, template in compiled.set_vars
    }
    variables = deciding.state.values.dumps(written)
    succeed_node(deciding, compiled.index, b"", variables=variables)


def _delay(deciding: Deciding, compiled: CompiledNode) -> None:
    until = _due(deciding, compiled)
    if until <= deciding.now:
        succeed_node(deciding, compiled.index, b"")
    else:
        deciding.emit(NodeWaiting(compiled.index, until))


def _due(deciding: Deciding, compiled: CompiledNode) -> int:
    if compiled.until is not None:
        value = compiled.until.program.evaluate(deciding.see(compiled.until.references, compiled))
        instant = parse_rfc3339(value) if isinstance(value, str) else None
        if instant is None:
            raise ExpressionError(f"`{compiled.until.source}` is {value!r:.100}, not a timestamp")
        return instant
    parameters = _parameters(deciding, compiled)
    length = duration_us(parameters.get("duration"))
    if length is None:
        raise ExpressionError(
            f"duration {parameters.get('duration')!r:.100} is no duration such as 30s, 5m or 2h"
        )
    return deciding.now + length


def _fail(deciding: Deciding, compiled: CompiledNode) -> None:
    parameters = _parameters(deciding, compiled)
    details = parameters.get("details")
    error = NodeError(
        str(parameters.get("type") or NODE_EXECUTION),
        str(parameters.get("message") or f"node {compiled.id} failed"),
        deciding.state.values.dumps(details) if details is not None else b"",
        retryable=False,
        node=compiled.index,
    )
    fail_node(deciding, compiled.index, error)


def _end(deciding: Deciding, compiled: CompiledNode) -> None:
    parameters = _parameters(deciding, compiled)
    given = "output" in parameters
    output = deciding.state.values.dumps(parameters["output"]) if given else b""
    if len(output) > OUTPUT_BYTES_MAX:
        message = f"the output has {len(output)} bytes, more than {OUTPUT_BYTES_MAX}"
        fail_node(
            deciding, compiled.index, NodeError(RESOURCE, message, retryable=False, node=compiled.index)
        )
        return
    deciding.emit(
        NodeSucceeded(
            compiled.index, 0, output, choices=choose_edges(deciding, compiled.index, output, "out")
        )
    )
    if given:
        deciding.end("success", output)
    else:
        finish(deciding)


def _parameters(deciding: Deciding, compiled: CompiledNode) -> dict[str, Any]:
    if compiled.parameters is None:
        return {}
    resolved = compiled.parameters.resolve(deciding.see(compiled.parameters.references, compiled))
    return resolved if isinstance(resolved, dict) else {}


_TYPES: dict[str, Callable[[Deciding, CompiledNode], None]] = {
    "noop": _noop,
    "condition": _condition,
    "switch": _switch,
    "merge": _merge,
    "set": _set,
    "delay": _delay,
    "fail": _fail,
    "end": _end,
}
