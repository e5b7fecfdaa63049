"""Everything about a definition that can be known before it runs, found all at once, each with its path.

`review` is what saving a version calls: it parses and validates. What this build does not run yet is refused here
by the path of the field, so that nothing is silently ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from services.core.definition.model import Definition
from services.core.definition.parse import PROBLEMS_MAX, read_definition
from services.core.errors import Problem, Severity
from services.core.expressions import ExpressionChecker, SchemaChecker
from services.core.units import MINUTE
from services.core.validation.parameters import check_parameters
from services.core.validation.policies import check_policies, check_waits
from services.core.validation.reviewing import Review
from services.core.validation.structure import check_edges, check_graph, check_nodes
from services.core.validation.texts import check_texts
from services.core.validation.unsupported import check_unsupported

__all__ = ["DEFAULT_EXECUTION_TIMEOUT_US", "review", "validate"]

_UNKNOWN_NODE = re.compile(r"nodes\[\d+\](?:\.id)?\Z")

# EXECUTION_DEFAULT_TIMEOUT unless the caller says otherwise.
DEFAULT_EXECUTION_TIMEOUT_US = 5 * MINUTE


def validate(
    definition: Definition,
    checker: ExpressionChecker,
    known_types: Collection[str] | None = None,
    *,
    schemas: SchemaChecker | None = None,
    default_timeout_us: int = DEFAULT_EXECUTION_TIMEOUT_US,
) -> list[Problem]:
    """Problems of a parsed definition, errors first; a definition without an ERROR compiles.

    `known_types` are the node types that runners have announced, None when nobody knows; `schemas` judges the
    input schema, None to leave that out.
    """
    found = Review(definition)
    check_nodes(found, known_types)
    check_edges(found)
    check_graph(found)
    check_parameters(found)
    check_policies(found)
    check_waits(found, default_timeout_us)
    check_unsupported(found)
    if schemas is not None and definition.input_schema is not None:
        for path, message in schemas.problems(definition.input_schema):
            found.error(f"input_schema{path}", "INVALID_SCHEMA", message)
    check_texts(found, checker)
    return _bounded(found.problems)


def review(
    plain: Any,
    checker: ExpressionChecker,
    known_types: Collection[str] | None = None,
    *,
    schemas: SchemaChecker | None = None,
    default_timeout_us: int = DEFAULT_EXECUTION_TIMEOUT_US,
) -> tuple[Definition | None, list[Problem]]:
    """Parses and validates a plain dict. The definition is None when a problem is an ERROR.

    What cannot be read does not hide what else is wrong; what follows from an unreadable field is left out.
    """
    definition, problems = read_definition(plain)
    if definition is None:
        return None, problems
    unread = {problem.path for problem in problems}
    # Without its ids a graph cannot be judged: everything that names them would be wrong as well.
    if not any(path == "nodes" or _UNKNOWN_NODE.match(path) for path in unread):
        found = validate(
            definition, checker, known_types, schemas=schemas, default_timeout_us=default_timeout_us
        )
        problems = problems + [problem for problem in found if not _follows(problem.path, unread)]
    refused = any(problem.severity is Severity.ERROR for problem in problems)
    return (None if refused else definition), _bounded(problems)


def _follows(path: str, unread: set[str]) -> bool:
    return any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in unread)


def _bounded(problems: list[Problem]) -> list[Problem]:
    ordered = sorted(problems, key=lambda problem: problem.severity is Severity.WARNING)
    return ordered[:PROBLEMS_MAX]
