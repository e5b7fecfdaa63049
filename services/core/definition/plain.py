"""A definition written back as the plain shape: absent and default fields left out, durations in seconds."""

from __future__ import annotations

from enum import Enum
from typing import Any

from services.core.definition.duration import seconds
from services.core.definition.fields import Duration, Kind, Many, Record, fields_of
from services.core.definition.model import Definition, Fallback


def definition_to_plain(definition: Definition) -> dict[str, Any]:
    """Plain shape of a definition; parsing it gives an equal definition. Shares its JSON values."""
    return _record(definition)


def _record(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in fields_of(type(value)):
        content = getattr(value, field.name)
        if content is None or (not field.required and _same(content, field.default)):
            continue
        plain[field.plain] = _value(content, field.kind)
    if isinstance(value, Fallback) and value.has_value:
        plain["value"] = value.value
    return plain


def _same(content: Any, default: Any) -> bool:
    # 0 == False and 1 == 1.0 in Python, never in JSON.
    return type(content) is type(default) and bool(content == default)


def _value(content: Any, kind: Kind) -> Any:
    if isinstance(content, Enum):
        return content.value
    if isinstance(kind, Duration):
        return seconds(content)
    if isinstance(kind, Record):
        return _record(content)
    if isinstance(kind, Many):
        return [_value(item, kind.of) for item in content]
    return content
