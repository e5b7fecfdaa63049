"""The one parser of the plain shape: a dict, as YAML, JSON and protobuf give it, becomes a `Definition`.

All problems are reported at once, each with its path. Field names are snake_case or lowerCamelCase, enums are in
any case with or without their protobuf prefix, durations are texts (`30s`) or numbers of seconds. Fields that do not
exist are refused: what is not understood must not be ignored.
"""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Any

from services.core.definition.canonical import canonical_bytes
from services.core.definition.duration import duration_us
from services.core.definition.fields import (
    EXPRESSION_BYTES_MAX,
    LABEL_KEY_CHARACTERS_MAX,
    LABEL_VALUE_CHARACTERS_MAX,
    LABELS_MAX,
    Boolean,
    Choice,
    Duration,
    ExpressionText,
    Integer,
    JsonFields,
    JsonValue,
    Kind,
    Labels,
    Many,
    Number,
    Record,
    Text,
    Word,
    by_plain_name,
    fields_of,
)
from services.core.definition.json_values import DEFINITION_BYTES_MAX, check_json, type_name
from services.core.definition.model import Definition, Fallback
from services.core.errors import Problem

# Problems after this many are left out: a client needs to see that something is systematically wrong, not all of it.
PROBLEMS_MAX = 100

_ABSENT: Any = object()


def parse_definition(plain: Any) -> tuple[Definition | None, list[Problem]]:
    """Definition of a plain dict, or None and what is wrong with it. Never raises for what `plain` holds."""
    definition, problems = read_definition(plain)
    return (None if problems else definition), problems


def read_definition(plain: Any) -> tuple[Definition | None, list[Problem]]:
    """Like `parse_definition`, but what could be read is there beside the problems, for validation to go on with.

    A field with a problem has its default, or an empty value where it is required.
    """
    if not isinstance(plain, dict):
        return None, [Problem("", "WRONG_TYPE", f"a definition is an object, not {type_name(plain)}")]
    problems = check_json(plain)
    if problems:
        return None, problems[:PROBLEMS_MAX]
    reader = _Reader()
    definition: Definition = reader.record(Definition, plain, "")
    if not reader.problems:
        size = len(canonical_bytes(definition))
        if size > DEFINITION_BYTES_MAX:
            reader.problem("", "TOO_LARGE", f"has {size} bytes, more than {DEFINITION_BYTES_MAX}")
    return definition, reader.problems[:PROBLEMS_MAX]


class _Reader:
    """Reads values by kind; `problems` collects what is wrong. `_ABSENT` stands for a value that could not be read."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, path: str, reason: str, message: str) -> Any:
        self.problems.append(Problem(path, reason, message))
        return _ABSENT

    def record(self, record: type[Any], plain: Any, path: str) -> Any:
        if not isinstance(plain, dict):
            return self.wrong_type(path, "an object", plain)
        names = by_plain_name(record)
        found: dict[str, Any] = {}
        for key, value in plain.items():
            field = names.get(key)
            if field is None:
                self.unknown_field(record, key, path)
            elif field.name in found:
                self.problem(
                    _join(path, key), "DUPLICATE_FIELD", f"`{field.plain}` is given in both spellings"
                )
            else:
                if record is Fallback and key == "value":
                    found["has_value"] = True
                # Protobuf does not tell an empty text from an absent one, so nobody may.
                absent = value is None or (value == "" and isinstance(field.kind, Text | ExpressionText))
                read = _ABSENT if absent else self.value(field.kind, value, _join(path, field.plain))
                if read is not _ABSENT:
                    found[field.name] = read
        for field in fields_of(record):
            if field.required and (found.get(field.name) in (None, "", ())):
                given = plain.get(field.plain)
                if given in (None, "", []) or found.get(field.name) == "":
                    self.problem(_join(path, field.plain), "REQUIRED", f"`{field.plain}` is required")
                found.setdefault(field.name, _empty(field.kind))
        return record(**found)

    def unknown_field(self, record: type[Any], key: str, path: str) -> None:
        known = [field.plain for field in fields_of(record)]
        close = get_close_matches(key, list(by_plain_name(record)), n=1)
        hint = f"; did you mean `{by_plain_name(record)[close[0]].plain}`?" if close else ""
        kept = ", ".join(sorted(known)) if not close else ""
        self.problem(
            _join(path, key),
            "UNKNOWN_FIELD",
            f"there is no field `{key[:80]}` here{hint or f'; there are: {kept}'}",
        )

    def value(self, kind: Kind, value: Any, path: str) -> Any:
        match kind:
            case Text(limit):
                return self.text(value, path, limit)
            case ExpressionText():
                return self.expression(value, path)
            case Integer(low, high):
                return self.integer(value, path, low, high)
            case Number():
                return self.number(value, path)
            case Boolean():
                return value if isinstance(value, bool) else self.wrong_type(path, "true or false", value)
            case Duration():
                return self.duration(value, path)
            case Choice(enum, prefix):
                word = self.word(value, path, [member.value for member in enum], prefix)
                return word if word is _ABSENT else enum(word)
            case Word(choices, prefix):
                return self.word(value, path, list(choices), prefix)
            case JsonValue(empty_is_absent):
                return _ABSENT if empty_is_absent and value == {} else value
            case JsonFields():
                return value if isinstance(value, dict) else self.wrong_type(path, "an object", value)
            case Labels():
                return self.labels(value, path)
            case Record(record):
                return self.record(record, value, path)
            case Many(of, limit):
                return self.many(of, value, path, limit)

    def text(self, value: Any, path: str, limit: int) -> Any:
        if not isinstance(value, str):
            hint = " (quote it)" if isinstance(value, int | float) else ""
            return self.wrong_type(path, f"a text{hint}", value)
        if len(value) > limit:
            return self.problem(path, "TOO_LONG", f"has {len(value)} characters, more than {limit}")
        return value

    def expression(self, value: Any, path: str) -> Any:
        if isinstance(value, bool):
            # `when: true` in YAML or JSON says what it seems to say.
            return "true" if value else "false"
        if not isinstance(value, str):
            return self.wrong_type(path, "an expression, as a text", value)
        size = len(value.encode())
        if size > EXPRESSION_BYTES_MAX:
            return self.problem(
                path, "TOO_LONG", f"the expression has {size} bytes, more than {EXPRESSION_BYTES_MAX}"
            )
        return value.strip()

    def integer(self, value: Any, path: str, low: int, high: int) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return self.wrong_type(path, "an integer", value)
        if not low <= value <= high:
            return self.problem(path, "OUT_OF_RANGE", f"must be from {low} to {high}, not {value:.30g}")
        return value

    def number(self, value: Any, path: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self.wrong_type(path, "a number", value)
        try:
            return float(value)
        except OverflowError:
            return self.problem(path, "OUT_OF_RANGE", "is too large a number")

    def duration(self, value: Any, path: str) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return self.wrong_type(path, "a duration", value)
        read = duration_us(value)
        if read is None:
            message = f"{str(value)[:40]!r} is no duration; write 500ms, 1.5s, 30s, 5m, 2h or 3d, or seconds"
            return self.problem(path, "INVALID_DURATION", message)
        return read

    def word(self, value: Any, path: str, choices: list[str], prefix: str) -> Any:
        if not isinstance(value, str):
            return self.wrong_type(path, f"one of {', '.join(choices)}", value)
        word = value.strip().upper().removeprefix(prefix)
        if word == "UNSPECIFIED":
            return _ABSENT
        if word not in choices:
            message = f"{value[:40]!r} is none of {', '.join(choices)}"
            return self.problem(path, "UNKNOWN_VALUE", message)
        return word

    def labels(self, value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            return self.wrong_type(path, "an object", value)
        if len(value) > LABELS_MAX:
            return self.problem(path, "TOO_MANY", f"has {len(value)} labels, more than {LABELS_MAX}")
        read: dict[str, str] = {}
        for key, item in value.items():
            at = f"{path}.{key[:80]}"
            if not 0 < len(key) <= LABEL_KEY_CHARACTERS_MAX:
                limit = f"1 to {LABEL_KEY_CHARACTERS_MAX}"
                self.problem(at, "TOO_LONG", f"a label's name has {limit} characters, not {len(key)}")
            text = self.text(item, at, LABEL_VALUE_CHARACTERS_MAX)
            if text is not _ABSENT:
                read[key] = text
        return read

    def many(self, of: Kind, value: Any, path: str, limit: int) -> Any:
        if not isinstance(value, list):
            return self.wrong_type(path, "a list", value)
        if len(value) > limit:
            return self.problem(path, "TOO_MANY", f"has {len(value)} items, more than {limit}")
        read: list[Any] = []
        for index, item in enumerate(value):
            at = f"{path}[{index}]"
            one = self.wrong_type(at, "a value", None) if item is None else self.value(of, item, at)
            # A record that is none leaves an empty one, so that the paths of those after it stay right.
            if one is not _ABSENT:
                read.append(one)
            elif isinstance(of, Record):
                read.append(_empty(of))
        return tuple(read)

    def wrong_type(self, path: str, wanted: str, value: Any) -> Any:
        return self.problem(path, "WRONG_TYPE", f"must be {wanted}, not {type_name(value)}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name[:80]}" if path else name[:80]


def _empty(kind: Kind) -> Any:
    match kind:
        case Integer(low):
            return low
        case Duration():
            return 0
        case Many():
            return ()
        case Record(record):
            return record(**{field.name: _empty(field.kind) for field in fields_of(record) if field.required})
        case _:
            return ""
