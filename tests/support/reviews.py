"""Reviews of definitions, written shortly."""

from __future__ import annotations

from typing import Any

from services.adapters.cel import CelCompiler
from services.adapters.json_schema import JsonSchemas
from services.core.errors import Problem, Severity
from services.core.validation import review

CEL = CelCompiler()
SCHEMAS = JsonSchemas()


def problems(**plain: Any) -> list[Problem]:
    known = plain.pop("known_types", None)
    definition, found = review({"name": "w", **plain}, CEL, known, schemas=SCHEMAS)
    assert (definition is None) == any(problem.severity is Severity.ERROR for problem in found)
    return found


def reasons(**plain: Any) -> dict[str, str]:
    return {problem.path: problem.reason for problem in problems(**plain)}


def node(node_id: str, node_type: str = "x", **fields: Any) -> dict[str, Any]:
    return {"id": node_id, "type": node_type, **fields}


def edge(source: str, target: str, **fields: Any) -> dict[str, Any]:
    return {"source": source, "target": target, **fields}
