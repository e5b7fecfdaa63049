"""What an input schema says about the types of `input`, as far as expressions can be checked against it.

Only what holds for every input that the schema accepts is used: `type`, `properties`, `items` and
`additionalProperties: false`. Whatever else a schema says (`oneOf`, `$ref` …) leaves things open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# Declared names cost the checker time; a schema with more is known less precisely.
NAMES_MAX = 500
DEPTH_MAX = 8

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TYPES = {"string": "string", "integer": "int", "boolean": "bool", "object": "map"}


@dataclass(frozen=True, slots=True)
class InputTypes:
    """Types of dotted names (`input`, `input.order.id`), and the closed objects with the keys they may have."""

    types: dict[str, str] = field(default_factory=dict)
    closed: dict[str, frozenset[str]] = field(default_factory=dict)

    def unknown_key(self, parts: Sequence[str]) -> str:
        """First key on a path (`("input", "order", "id")`) that no accepted input has; empty when there is none."""
        for length in range(1, len(parts)):
            keys = self.closed.get(".".join(parts[:length]))
            if keys is not None and parts[length] not in keys:
                return parts[length]
        return ""


def input_types(schema: Any) -> InputTypes:
    """What a JSON Schema says about `input`."""
    found = InputTypes({"input": "map"})
    _read(schema, "input", found, 0, root=True)
    return found


def _read(schema: Any, name: str, found: InputTypes, depth: int, *, root: bool = False) -> None:
    if not isinstance(schema, dict) or depth > DEPTH_MAX or len(found.types) > NAMES_MAX:
        return
    kind = schema.get("type")
    if not root:
        found.types[name] = _type(schema)
    # An input is always an object; for anything below, `properties` says nothing unless the type is object.
    if kind != "object" and not root:
        return
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if schema.get("additionalProperties") is False and "patternProperties" not in schema:
        found.closed[name] = frozenset(properties)
    for key, value in properties.items():
        if _NAME.match(key):
            _read(value, f"{name}.{key}", found, depth + 1)


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items")
        # Elements are typed only where every list is: a mixed one would be refused for the wrong reason.
        return (
            f"list<{_type(items)}>"
            if isinstance(items, dict) and "prefixItems" not in schema
            else "list<dyn>"
        )
    return _TYPES.get(kind, "dyn") if isinstance(kind, str) else "dyn"
