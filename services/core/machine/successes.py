"""When a node succeeds: its output is kept, the edges of its port are chosen."""

from __future__ import annotations

from services.core.errors import RESOURCE, NodeError
from services.core.events import EdgeChoice, NodeSucceeded
from services.core.machine.deciding import Deciding
from services.core.machine.failures import choose_edge, fail_node
from services.core.machine.limits import OUTPUT_BYTES_MAX


def succeed_node(
    deciding: Deciding, index: int, output: bytes, *, port: str = "out", variables: bytes = b""
) -> None:
    """A node decided in the scheduler has its output (JSON bytes; empty for null)."""
    if len(output) + len(variables) > OUTPUT_BYTES_MAX:
        message = f"the output has {len(output) + len(variables)} bytes, more than {OUTPUT_BYTES_MAX}"
        fail_node(deciding, index, NodeError(RESOURCE, message, retryable=False, node=index))
        return
    choices = choose_edges(deciding, index, output, port, variables)
    deciding.emit(NodeSucceeded(index, 0, output, port, variables, choices))


def choose_edges(
    deciding: Deciding, index: int, output: bytes, port: str, variables: bytes = b""
) -> tuple[EdgeChoice, ...]:
    """Recorded outcomes of the outgoing edges of `port` that have a `when`."""
    workflow = deciding.state.workflow
    compiled = workflow.nodes[index]
    choices: tuple[EdgeChoice, ...] = ()
    for edge_index in compiled.outgoing:
        edge = workflow.edges[edge_index]
        if edge.when is not None and edge.port == port:
            choices += (choose_edge(deciding, edge, None, output, variables),)
    return choices
