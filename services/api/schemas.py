"""JSON Schema: whether a schema is one, and what of an input breaks it. Never fetches anything; regexes are linear."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from services.core.errors import Problem

PROBLEMS_MAX = 100
MESSAGE_CHARACTERS_MAX = 500


class InputSchema:
    """A compiled schema (draft 2020-12 unless it names another)."""

    def __init__(self, schema: Any) -> None:
        """Raises ValueError, with a text for the author, when it is no schema or refers to elsewhere."""
        try:
            self._validator = jsonschema_rs.validator_for(
                schema, offline=True, pattern_options=jsonschema_rs.RegexOptions(), validate_formats=True
            )
        except (
            jsonschema_rs.ValidationError,
            jsonschema_rs.ReferencingError,
            ValueError,
            TypeError,
        ) as error:
            raise ValueError(_clipped(str(getattr(error, "message", error)))) from None

    def problems(self, value: Any, path: str) -> list[Problem]:
        """What is wrong with a value, each with its path below `path`."""
        if self._validator.is_valid(value):
            return []
        found: list[Problem] = []
        for error in self._validator.iter_errors(value):
            where = "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path
            )
            found.append(Problem(path + where, "SCHEMA", _clipped(error.message)))
            if len(found) >= PROBLEMS_MAX:
                break
        return found


class SchemaJudge:
    """Says whether a schema is one: the port that validation asks (`core.expressions.SchemaChecker`)."""

    def problems(self, schema: Any) -> list[tuple[str, str]]:
        """What makes `schema` unusable, as (path within it, message)."""
        try:
            InputSchema(schema)
        except ValueError as error:
            return [("", f"it is not a usable JSON Schema: {error}")]
        return []


def _clipped(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
