"""Ids, edges, ports, joins and cycles."""

from __future__ import annotations

import re
from collections.abc import Collection

from services.core.definition.model import Edge, Join, Node
from services.core.node_types import (
    BUILT_IN_TASK_TYPES,
    FAILURE_PORTS,
    LOCAL_TYPES,
    UNSUPPORTED_TYPES,
    ports_of,
)
from services.core.references import RESERVED_WORDS
from services.core.topology import find_cycle, gated_by
from services.core.validation.reviewing import Review, did_you_mean

# Nodes that all `cancel_others` joins of a definition may cancel together; their sets are kept per version.
CANCEL_SETS_MAX = 200_000

_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}\Z")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}\Z")
_QUEUE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")


def check_nodes(found: Review, known_types: Collection[str] | None) -> None:
    """Ids, types and task queues; what has no effect on a node decided in the scheduler."""
    if not found.definition.name.strip():
        found.error("name", "REQUIRED", "a name has at least one character that is no space")
    for index, node in enumerate(found.definition.nodes):
        path = f"nodes[{index}]"
        _check_id(found, index, node.id, path)
        if not _TYPE.match(node.type):
            found.error(
                f"{path}.type",
                "INVALID_TYPE",
                "a type is letters, digits and `_.:/-`, such as `http.request`",
            )
        elif known_types is not None and node.type not in known_types:
            _check_announced(found, node.type, known_types, path)
        if node.task_queue and not _QUEUE.match(node.task_queue):
            message = "a task queue is lower-case letters, digits, `_` and `-`, at most 63"
            found.error(f"{path}.task_queue", "INVALID_TASK_QUEUE", message)
        if node.type in LOCAL_TYPES:
            _check_local(found, node, path)


def _check_id(found: Review, index: int, node_id: str, path: str) -> None:
    if not _ID.match(node_id):
        message = f"{node_id[:40]!r} is no id: a letter, then letters, digits and `_`, at most 128"
        found.error(f"{path}.id", "INVALID_ID", message)
    elif node_id in RESERVED_WORDS:
        found.error(
            f"{path}.id", "RESERVED_WORD", f"`{node_id}` is a reserved word of CEL; choose another id"
        )
    elif found.index_of[node_id] != index:
        first = found.index_of[node_id]
        found.error(f"{path}.id", "DUPLICATE_ID", f"`{node_id}` is the id of nodes[{first}] already")


def _check_announced(found: Review, node_type: str, known_types: Collection[str], path: str) -> None:
    if node_type in LOCAL_TYPES | BUILT_IN_TASK_TYPES | UNSUPPORTED_TYPES:
        return
    hint = did_you_mean(node_type, sorted({*known_types, *LOCAL_TYPES, *BUILT_IN_TASK_TYPES}))
    message = f"no runner has announced `{node_type}`; its task will wait for one{hint}"
    found.warning(f"{path}.type", "UNKNOWN_TYPE", message)


def _check_local(found: Review, node: Node, path: str) -> None:
    if node.timeouts is not None:
        message = (
            f"timeouts of a `{node.type}` node, which the scheduler decides, are not run yet; leave them out"
        )
        found.error(f"{path}.timeouts", "NOT_SUPPORTED", message)
    for field in ("retry_policy", "task_queue", "resources"):
        if getattr(node, field):
            message = f"has no effect: a `{node.type}` node is decided in the scheduler, without a task"
            found.warning(f"{path}.{field}", "NO_EFFECT", message)


def check_edges(found: Review) -> None:
    """Ends, ports and error types of edges."""
    nodes = found.definition.nodes
    ports = [ports_of(node.type, node.parameters) for node in nodes]
    seen: dict[tuple[str, str, str], int] = {}
    for index, edge in enumerate(found.definition.edges):
        path = f"edges[{index}]"
        for field, end in (("source", edge.source), ("target", edge.target)):
            if end and end not in found.index_of:
                message = f"there is no node `{end[:128]}`{did_you_mean(end, found.index_of)}"
                found.error(f"{path}.{field}", "UNKNOWN_NODE", message)
        if edge.source == edge.target and edge.source in found.index_of:
            found.error(path, "SELF_EDGE", f"leads from `{edge.source}` to itself")
        first = seen.setdefault((edge.source, edge.port, edge.target), index)
        if first != index:
            message = f"says the same as edges[{first}]: `{edge.source}` by `{edge.port}` to `{edge.target}`"
            found.error(path, "DUPLICATE_EDGE", message)
        source = found.index_of.get(edge.source)
        if source is not None:
            _check_port(found, edge, nodes[source], ports[source], path)


def _check_port(found: Review, edge: Edge, node: Node, ports: frozenset[str], path: str) -> None:
    if edge.port not in ports:
        hint = did_you_mean(edge.port, sorted(ports))
        own = ", ".join(f"`{port}`" for port in sorted(ports))
        message = f"a `{node.type}` node has no port `{edge.port}`, only {own}{hint}"
        found.error(f"{path}.port", "UNKNOWN_PORT", message)
    if edge.error_types and edge.port not in FAILURE_PORTS:
        message = "error types belong to an edge of port `error` or `timeout`"
        found.error(f"{path}.error_types", "NO_EFFECT", message)


def check_graph(found: Review) -> None:
    """Cycles, joins and quorums."""
    nodes = found.definition.nodes
    if found.cyclic:
        cycle = find_cycle(found.successors, found.predecessors, found.order)
        shown = " → ".join(f"`{nodes[index].id}`" for index in cycle[:20])
        more = " → …" if len(cycle) > 20 else ""
        found.error("edges", "CYCLE", f"there is a cycle: {shown}{more}; a loop is a node with `repeat`")
    cancelled = 0
    for index, node in enumerate(nodes):
        path, incoming = f"nodes[{index}]", len(found.predecessors[index])
        if node.join is Join.QUORUM and not 1 <= node.quorum <= incoming:
            message = f"must be from 1 to the number of incoming edges, {incoming}, not {node.quorum}"
            found.error(f"{path}.quorum", "OUT_OF_RANGE", message)
        if node.join is not Join.QUORUM and node.quorum:
            found.error(f"{path}.quorum", "NO_EFFECT", "belongs to `join: QUORUM`")
        if node.type == "merge" and not incoming:
            found.error(path, "NOTHING_TO_MERGE", "a merge node needs incoming edges")
        if node.cancel_others and incoming < 2:
            found.warning(
                f"{path}.cancel_others", "NO_EFFECT", "with fewer than two incoming edges there are no others"
            )
        if node.cancel_others and not found.cyclic and cancelled <= CANCEL_SETS_MAX:
            cancelled += len(gated_by(index, found.successors, found.predecessors))
            if cancelled > CANCEL_SETS_MAX:
                message = f"`cancel_others` of all nodes concerns more than {CANCEL_SETS_MAX} nodes together"
                found.error(f"{path}.cancel_others", "TOO_LARGE", message)
