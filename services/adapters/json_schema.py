"""JSON Schema, by jsonschema-rs: whether a schema is one, and what of a value breaks it.

Draft 2020-12 unless a schema names another. Nothing is ever fetched, and patterns run in linear time: schemas
come from tenants.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from services.core.errors import Problem

SCHEMA_PROBLEMS_MAX = 20
VALUE_PROBLEMS_MAX = 100
MESSAGE_CHARACTERS_MAX = 500

_UNUSABLE = (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError)


class JsonSchemas:
    """Judges schemas: the port that validation asks (`core.expressions.SchemaChecker`)."""

    def __init__(self) -> None:
        meta = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
        self._meta = jsonschema_rs.Draft202012Validator(meta, offline=True)

    def problems(self, schema: Any) -> list[tuple[str, str]]:
        """What makes `schema` no usable JSON Schema, as (path within it, message); empty when it is one."""
        if not isinstance(schema, dict | bool):
            return [("", "a schema is an object or a bool")]
        try:
            _compile(schema)
        except _UNUSABLE as error:
            # The first reason; the meta-schema of the usual draft knows the others, and where they are.
            return self._all(schema) or [("", _text(error))]
        return []

    def _all(self, schema: Any) -> list[tuple[str, str]]:
        if isinstance(schema, dict) and "$schema" in schema:
            return []
        return _errors(self._meta, schema, SCHEMA_PROBLEMS_MAX)


class InputSchema:
    """A compiled schema, for values."""

    def __init__(self, schema: Any) -> None:
        """Raises ValueError, with a text for the author, when it is no schema or refers to elsewhere."""
        try:
            self._validator = _compile(schema)
        except _UNUSABLE as error:
            raise ValueError(_text(error)) from None

    def problems(self, value: Any, path: str) -> list[Problem]:
        """What is wrong with a value, each with its path below `path`."""
        if self._validator.is_valid(value):
            return []
        found = _errors(self._validator, value, VALUE_PROBLEMS_MAX)
        return [Problem(path + where, "SCHEMA", message) for where, message in found]


def _compile(schema: Any) -> Any:
    return jsonschema_rs.validator_for(
        schema, offline=True, pattern_options=jsonschema_rs.RegexOptions(), validate_formats=True
    )


def _errors(validator: Any, value: Any, count_max: int) -> list[tuple[str, str]]:
    """(path, message) of the first errors."""
    found: list[tuple[str, str]] = []
    for error in validator.iter_errors(value):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        found.append((path, _clipped(error.message)))
        if len(found) == count_max:
            break
    return found


def _text(error: Exception) -> str:
    return _clipped(str(getattr(error, "message", error)))


def _clipped(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
