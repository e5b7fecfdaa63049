"""What the language has and this build does not run: refused by path, never ignored."""

from __future__ import annotations

from services.core.definition.model import Node, Rollback
from services.core.node_types import UNSUPPORTED_TYPES
from services.core.templates import expressions_in
from services.core.validation.reviewing import Review

_NODE_FIELDS = ("circuit_breaker", "fallback", "for_each", "repeat", "cache", "compensate_with")
_WORKFLOW_FIELDS = ("concurrency", "rate_limit", "on_failure", "cleanup", "notify")


def check_unsupported(found: Review) -> None:
    """Refuses every field and node type that this build does not run."""
    definition = found.definition
    for field in _WORKFLOW_FIELDS:
        if getattr(definition, field):
            _refuse(found, field, f"`{field}`")
    if definition.retention_us is not None:
        _refuse(found, "retention", "`retention`")
    if definition.rollback is not Rollback.NONE:
        _refuse(found, "rollback", f"`rollback: {definition.rollback.value}`")
    for path, _ in expressions_in(definition.vars, "vars"):
        message = "first values of variables hold no expressions yet; write them with a `set` node"
        found.error(path, "NOT_SUPPORTED", message)
    for index, node in enumerate(definition.nodes):
        _check_node(found, node, f"nodes[{index}]")


def _check_node(found: Review, node: Node, path: str) -> None:
    if node.type in UNSUPPORTED_TYPES:
        _refuse(found, f"{path}.type", f"the node type `{node.type}`")
    for field in _NODE_FIELDS:
        if getattr(node, field) is not None:
            _refuse(found, f"{path}.{field}", f"`{field}`")
    if node.repeat is not None and not node.repeat.max_iterations:
        found.error(
            f"{path}.repeat.max_iterations", "REQUIRED", "a loop without a bound is refused; say how often"
        )
    if node.repeat is not None and node.for_each is not None:
        found.error(f"{path}.repeat", "CONFLICT", "a node has `for_each` or `repeat`, not both")


def _refuse(found: Review, path: str, what: str) -> None:
    found.error(path, "NOT_SUPPORTED", f"{what} is not run by this build")
