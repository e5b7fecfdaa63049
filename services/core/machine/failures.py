"""When a node fails: retry, then a matching error or timeout edge, then CONTINUE, then the execution fails.

The order is the contract.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from services.core import retry
from services.core.definition.model import OnError
from services.core.errors import TIMEOUT, ExpressionError, NodeError
from services.core.events import EdgeChoice, EdgeOutcome, NodeFailed, NodeRetrying
from services.core.graph import CompiledEdge
from services.core.machine.bindings import error_view
from services.core.machine.conditions import holds
from services.core.machine.deciding import Deciding
from services.core.state import failed_status
from services.core.states import NodeStatus


class Run(NamedTuple):
    """When and where an attempt ran, as far as anybody said so."""

    started_at: int = 0
    ended_at: int = 0
    runner_id: str = ""


def fail_node(deciding: Deciding, index: int, error: NodeError, run: Run = Run()) -> None:  # noqa: B008 (immutable)
    """An attempt, or a node decided in the scheduler, has failed."""
    state = deciding.state
    compiled, node = state.workflow.nodes[index], state.nodes[index]
    if node.attempt and not state.grace_until:
        at = retry.retry_at(
            compiled.retry,
            error,
            counted=node.attempt - node.losses,
            now=deciding.now,
            draw=deciding.draw,
            first_scheduled_at=node.first_scheduled_at,
            schedule_to_close_us=compiled.timeouts.schedule_to_close_us,
        )
        if at is not None:
            deciding.emit(NodeRetrying(index, node.attempt, error, at, *run))
            return
    taken, choices = _failure_edges(deciding, index, error)
    if taken or any(choice.outcome is not EdgeOutcome.DEAD for choice in choices):
        deciding.emit(NodeFailed(index, node.attempt, error, True, False, choices, taken, *run))
        return
    if compiled.on_error is OnError.CONTINUE:
        taken, choices = _continued_edges(deciding, index, error)
        deciding.emit(NodeFailed(index, node.attempt, error, True, True, choices, taken, *run))
        return
    deciding.emit(NodeFailed(index, node.attempt, error, False, False, (), (), *run))
    if not state.grace_until:
        deciding.end("failed", error=replace(error, node=index))


def _failure_edges(
    deciding: Deciding, index: int, error: NodeError
) -> tuple[tuple[int, ...], tuple[EdgeChoice, ...]]:
    """All failure edges that match: TIMEOUT takes `timeout` edges, else `error` edges like any other error.

    Returns the edges taken without an evaluation, and the recorded choices of those with a `when`.
    """
    ports = ("timeout", "error") if error.type == TIMEOUT else ("error",)
    for port in ports:
        taken: list[int] = []
        choices: list[EdgeChoice] = []
        for edge_index in deciding.state.workflow.nodes[index].outgoing:
            edge = deciding.state.workflow.edges[edge_index]
            if edge.port != port or (edge.error_types and error.type not in edge.error_types):
                continue
            if edge.when is None:
                taken.append(edge_index)
            else:
                choices.append(choose_edge(deciding, edge, error))
        if taken or any(choice.outcome is not EdgeOutcome.DEAD for choice in choices):
            return tuple(taken), tuple(choices)
    return (), ()


def _continued_edges(
    deciding: Deciding, index: int, error: NodeError
) -> tuple[tuple[int, ...], tuple[EdgeChoice, ...]]:
    """`on_error: CONTINUE` takes `out`, with a null output."""
    taken: list[int] = []
    choices: list[EdgeChoice] = []
    for edge_index in deciding.state.workflow.nodes[index].outgoing:
        edge = deciding.state.workflow.edges[edge_index]
        if edge.port == "out":
            if edge.when is None:
                taken.append(edge_index)
            else:
                choices.append(choose_edge(deciding, edge, error))
    return tuple(taken), tuple(choices)


def choose_edge(
    deciding: Deciding,
    edge: CompiledEdge,
    error: NodeError | None,
    output: bytes = b"",
    variables: bytes = b"",
) -> EdgeChoice:
    """Evaluate an edge's `when` as things will be once its source has ended, with `output` or with `error`.

    `variables` is the JSON object of what the source writes. An error in the `when` is recorded: it fails the target.
    """
    assert edge.when is not None
    try:
        values = deciding.see(edge.when.references, deciding.state.workflow.nodes[edge.source])
        _foresee(deciding, edge.source, values, error, output, variables)
        taken = holds(edge.when, values)
    except ExpressionError as problem:
        return EdgeChoice(edge.index, EdgeOutcome.ERROR, f"edges[{edge.index}].when: {problem}")
    return EdgeChoice(edge.index, EdgeOutcome.TAKEN if taken else EdgeOutcome.DEAD)


def _foresee(
    deciding: Deciding,
    source: int,
    values: dict[str, Any],
    error: NodeError | None,
    output: bytes,
    variables: bytes,
) -> None:
    """Put into `values` what the source's end, which is about to be recorded, will have changed."""
    state = deciding.state
    if variables and "vars" in values:
        values["vars"] = {**values["vars"], **state.values.loads(variables)}
    name = "nodes." + state.workflow.nodes[source].id
    if name not in values:
        return
    view = values[name]
    view["error"] = error_view(state, error)
    if error is None:
        view["status"] = NodeStatus.SUCCESS.word
        view["output"] = state.values.loads(output) if output else None
    else:
        view["status"] = failed_status(error).word
        view["output"] = None
