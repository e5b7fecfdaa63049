"""A definition compiled for the machine: indices in place of names, programs in place of texts.

Compiled once per version and shared by its executions; nothing in it changes afterwards. The definition must
have passed validation: what is wrong with it raises here, one problem at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.core.compiling import ExpressionCompilation, ResolvedRetry, RetryDefaults, resolve_retry
from services.core.definition.canonical import json_bytes
from services.core.definition.model import Definition, Edge, Join, Node, OnError, Priority, Strategy, Timeouts
from services.core.expressions import ExpressionCompiler
from services.core.node_types import LOCAL_TYPES, ports_of
from services.core.references import NO_REFERENCES, References
from services.core.templates import Expression, Template
from services.core.topology import ancestor_masks, bits, gated_by, topological_order

__all__ = [
    "CompiledEdge",
    "CompiledNode",
    "CompiledWorkflow",
    "Expression",
    "References",
    "ResolvedRetry",
    "RetryDefaults",
    "Template",
    "compile_workflow",
]

DEFAULT_TASK_QUEUE = "default"


@dataclass(slots=True, eq=False)
class CompiledEdge:
    """One edge. `source` and `target` are node indices."""

    index: int
    source: int
    target: int
    port: str
    when: Expression | None
    error_types: tuple[str, ...]


@dataclass(slots=True, eq=False)
class CompiledNode:
    """One node. `position` is its place in topological order; `references` is what the parameters refer to.

    `var_writers` are the upstream `set` nodes in topological order, present when a text of this node or of
    one of its outgoing edges refers to `vars`.
    """

    index: int
    id: str
    name: str
    type: str
    definition: Node
    position: int
    incoming: tuple[int, ...]
    outgoing: tuple[int, ...]
    local: bool
    join: Join
    quorum: int
    cancel_set: tuple[int, ...]
    when: Expression | None
    parameters: Template | None
    parameters_json: bytes
    references: References
    var_writers: tuple[int, ...]
    retry: ResolvedRetry
    timeouts: Timeouts
    task_queue: str
    priority: Priority | None
    slots: int
    on_error: OnError
    ports: frozenset[str]
    condition: Expression | None = None
    cases: tuple[tuple[str, Expression], ...] = ()
    default_port: str = ""
    until: Expression | None = None
    set_vars: tuple[tuple[str, Template], ...] = ()


@dataclass(slots=True, eq=False)
class CompiledWorkflow:
    """A whole version. `order` is topological, `roots` have no incoming edge.

    `retained` are the nodes whose output something refers to or merges; the others' may be dropped once
    stored.
    """

    definition: Definition
    nodes: tuple[CompiledNode, ...]
    edges: tuple[CompiledEdge, ...]
    roots: tuple[int, ...]
    order: tuple[int, ...]
    index_of: dict[str, int]
    output: Template | None
    initial_vars: dict[str, Any]
    initial_vars_json: bytes
    retained: frozenset[int]
    timeout_us: int | None
    sequential: bool
    max_parallel: int


def compile_workflow(
    definition: Definition, compiler: ExpressionCompiler, defaults: RetryDefaults | None = None
) -> CompiledWorkflow:
    """Compiles a valid definition.

    Raises `ExpressionError` naming the field for a text that does not compile, `ValueError` for a graph that
    is none.
    """
    index_of = {node.id: index for index, node in enumerate(definition.nodes)}
    graph = _Graph(definition, index_of)
    texts = ExpressionCompilation(compiler, index_of, graph.masks, graph.position)
    edges = tuple(_compile_edge(texts, index, edge, index_of) for index, edge in enumerate(definition.edges))
    defaults = defaults or RetryDefaults()
    nodes = tuple(
        _compile_node(texts, graph, edges, index, defaults) for index in range(len(definition.nodes))
    )
    output = None
    if definition.output is not None:
        output = texts.template(definition.output, "output", None)
    variables = texts.template(definition.vars, "vars", None)
    if not variables.constant:
        raise ValueError("vars: initial values hold no expressions")
    initial_vars = dict(variables.resolve({}))
    merged = (edges[e].source for node in nodes if node.type == "merge" for e in node.incoming)
    return CompiledWorkflow(
        definition=definition,
        nodes=nodes,
        edges=edges,
        roots=tuple(index for index, node in enumerate(nodes) if not node.incoming),
        order=tuple(graph.order),
        index_of=index_of,
        output=output,
        initial_vars=initial_vars,
        initial_vars_json=json_bytes(initial_vars),
        retained=frozenset(texts.outputs_used).union(merged),
        timeout_us=definition.timeout_us,
        sequential=definition.strategy is Strategy.SEQUENTIAL,
        max_parallel=definition.max_parallel_nodes,
    )


class _Graph:
    """Adjacency of a definition by index, with its order and what is upstream of what."""

    def __init__(self, definition: Definition, index_of: dict[str, int]) -> None:
        count = len(definition.nodes)
        self.definition = definition
        self.incoming: list[list[int]] = [[] for _ in range(count)]
        self.outgoing: list[list[int]] = [[] for _ in range(count)]
        self.successors: list[list[int]] = [[] for _ in range(count)]
        self.predecessors: list[list[int]] = [[] for _ in range(count)]
        for number, edge in enumerate(definition.edges):
            source, target = index_of[edge.source], index_of[edge.target]
            self.outgoing[source].append(number)
            self.incoming[target].append(number)
            self.successors[source].append(target)
            self.predecessors[target].append(source)
        self.order = topological_order(self.successors, self.predecessors)
        if len(self.order) < count:
            raise ValueError("edges: the graph has a cycle")
        self.position = [0] * count
        for place, node in enumerate(self.order):
            self.position[node] = place
        self.masks = ancestor_masks(self.order, self.predecessors)
        writers = [index for index, node in enumerate(definition.nodes) if node.type == "set"]
        self._writers_mask = sum(1 << self.position[index] for index in writers)

    def writers_above(self, index: int) -> tuple[int, ...]:
        """Upstream `set` nodes in topological order."""
        return tuple(self.order[place] for place in bits(self.masks[index] & self._writers_mask))


def _compile_edge(
    texts: ExpressionCompilation, index: int, edge: Edge, index_of: dict[str, int]
) -> CompiledEdge:
    source = index_of[edge.source]
    when = None
    if edge.when:
        when = texts.expression(edge.when, f"edges[{index}].when", source, own=True)
    return CompiledEdge(index, source, index_of[edge.target], edge.port, when, edge.error_types)


def _compile_node(
    texts: ExpressionCompilation,
    graph: _Graph,
    edges: Sequence[CompiledEdge],
    index: int,
    defaults: RetryDefaults,
) -> CompiledNode:
    definition = graph.definition
    node = definition.nodes[index]
    local = node.type in LOCAL_TYPES
    path = f"nodes[{index}]"
    when = texts.expression(node.when, f"{path}.when", index) if node.when else None
    cancel_set = gated_by(index, graph.successors, graph.predecessors) if node.cancel_others else []
    compiled = CompiledNode(
        index=index,
        id=node.id,
        name=node.name or node.id,
        type=node.type,
        definition=node,
        position=graph.position[index],
        incoming=tuple(graph.incoming[index]),
        outgoing=tuple(graph.outgoing[index]),
        local=local,
        join=node.join,
        quorum=node.quorum,
        cancel_set=tuple(cancel_set),
        when=when,
        parameters=None,
        parameters_json=b"" if node.parameters is None else json_bytes(node.parameters),
        references=NO_REFERENCES,
        var_writers=(),
        retry=resolve_retry(node.retry_policy, definition.default_retry_policy, defaults, local=local),
        timeouts=node.timeouts or Timeouts(),
        task_queue=node.task_queue or DEFAULT_TASK_QUEUE,
        priority=node.priority,
        slots=node.resources.slots if node.resources else 1,
        on_error=node.on_error,
        ports=ports_of(node.type, node.parameters),
    )
    _compile_parameters(texts, compiled, f"{path}.parameters")
    if _uses_vars(compiled, edges):
        compiled.var_writers = graph.writers_above(index)
    return compiled


def _compile_parameters(texts: ExpressionCompilation, compiled: CompiledNode, path: str) -> None:
    """Fills in what the node's parameters compile to: expressions of its type, and a template of the rest."""
    parameters = compiled.definition.parameters
    if parameters is None:
        return
    index = compiled.index
    match compiled.type:
        case "condition":
            compiled.condition = texts.expression(parameters["condition"], f"{path}.condition", index)
        case "switch":
            compiled.cases = tuple(
                (case["port"], texts.expression(case["when"], f"{path}.cases[{number}].when", index))
                for number, case in enumerate(parameters.get("cases", []))
            )
            compiled.default_port = parameters["default"]
        case "set":
            written = parameters["vars"]
            compiled.set_vars = tuple(
                (name, texts.template(value, f"{path}.vars.{name}", index)) for name, value in written.items()
            )
            for _, template in compiled.set_vars:
                compiled.references |= template.references
        case "delay" if "until" in parameters:
            compiled.until = texts.expression(parameters["until"], f"{path}.until", index)
        case _:
            compiled.parameters = texts.template(parameters, path, index)
            compiled.references = compiled.parameters.references


def _uses_vars(compiled: CompiledNode, edges: Sequence[CompiledEdge]) -> bool:
    if compiled.references.vars:
        return True
    deciding = [compiled.when, compiled.condition, compiled.until, *(when for _, when in compiled.cases)]
    deciding.extend(edges[edge].when for edge in compiled.outgoing)
    return any(expression is not None and expression.references.vars for expression in deciding)
