"""JSON Schema behind the core's port, by jsonschema-rs: draft 2020-12 unless a schema names another.

Nothing is ever fetched, and patterns run in linear time: schemas come from tenants.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs

PROBLEMS_MAX = 20
MESSAGE_CHARACTERS_MAX = 500


class JsonSchemas:
    """Judges schemas."""

    def __init__(self) -> None:
        meta = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
        self._meta = jsonschema_rs.Draft202012Validator(meta, offline=True)

    def problems(self, schema: Any) -> list[tuple[str, str]]:
        """What makes `schema` no usable JSON Schema, as (path within it, message); empty when it is one."""
        if not isinstance(schema, dict | bool):
            return [("", "a schema is an object or a bool")]
        try:
            jsonschema_rs.validator_for(schema, offline=True, pattern_options=jsonschema_rs.RegexOptions())
        except (jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
            # The first reason; the meta-schema of the usual draft knows the others, and where they are.
            return self._all(schema) or [("", _clipped(getattr(error, "message", str(error))))]
        return []

    def _all(self, schema: Any) -> list[tuple[str, str]]:
        if isinstance(schema, dict) and "$schema" in schema:
            return []
        found: list[tuple[str, str]] = []
        for error in self._meta.iter_errors(schema):
            path = "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path
            )
            found.append((path, _clipped(error.message)))
            if len(found) == PROBLEMS_MAX:
                break
        return found


def _clipped(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
