"""`WorkflowDefinition` <-> the plain shape, by its descriptor: a new field of the contract needs no line here.

Coming in, nothing is judged but what the plain shape could not say (unknown fields, bytes that are no JSON); going
out, JSON values are Structs for people where a Struct can hold them exactly, and JSON bytes where it cannot.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from services.adapters.wire.json_values import (
    WHOLE_MAX,
    JsonRefused,
    dump_json,
    parse_json,
    put_struct,
    put_value,
    struct_to_plain,
    value_to_plain,
)
from services.core.definition.duration import duration_us
from services.core.definition.model import Definition
from services.core.definition.plain import definition_to_plain
from services.core.errors import Problem
from services.core.units import SECOND
from weconnect.executions.v1.definition_pb2 import WorkflowDefinition

# A message may nest 100 deep; every level of a Struct takes three, and the definition around it some.
STRUCT_NESTING_MAX = 24

_JSON_SUFFIX = "_json"
_DURATION = "google.protobuf.Duration"
_STRUCT = "google.protobuf.Struct"
_VALUE = "google.protobuf.Value"


def definition_from_proto(message: WorkflowDefinition) -> tuple[dict[str, Any], list[Problem]]:
    """Plain shape of a message, for `parse_definition`, and what of it could not be read, by path."""
    problems: list[Problem] = []
    return _read(message, "", problems), problems


def definition_to_proto(definition: Definition, *, exact: bool = False) -> WorkflowDefinition:
    """Message of a definition. `exact`: JSON values go as bytes even where a Struct could hold them."""
    message = WorkflowDefinition()
    _write(message, definition_to_plain(definition), exact=exact)
    return message


def _read(message: Message, path: str, problems: list[Problem]) -> dict[str, Any]:
    unknown_fields: Any = UnknownFieldSet(message)
    for unknown in unknown_fields:
        text = f"field number {unknown.field_number} is not known to this build"
        problems.append(Problem(path, "UNKNOWN_FIELD", text))
    plain: dict[str, Any] = {}
    field: Any
    for field, value in message.ListFields():
        name = field.name
        at = f"{path}.{name}" if path else name
        try:
            if field.type == FieldDescriptor.TYPE_BYTES and name.endswith(_JSON_SUFFIX):
                plain[name.removesuffix(_JSON_SUFFIX)] = parse_json(value)
            elif _is_map(field):
                plain[name] = dict(value)
            elif field.is_repeated:
                plain[name] = [
                    _one(field, item, f"{at}[{index}]", problems) for index, item in enumerate(value)
                ]
            else:
                plain[name] = _one(field, value, at, problems)
        except JsonRefused as refused:
            problems.append(Problem(at, "INVALID_VALUE", str(refused)))
    return plain


def _one(field: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else str(value)
    if field.type != FieldDescriptor.TYPE_MESSAGE:
        return value
    match field.message_type.full_name:
        case "google.protobuf.Duration":
            return _duration_text(value.seconds, value.nanos)
        case "google.protobuf.Struct":
            return struct_to_plain(value)
        case "google.protobuf.Value":
            return value_to_plain(value)
        case _:
            return _read(value, path, problems)


def _duration_text(seconds: int, nanos: int) -> str:
    """Text of a Duration that the parser reads; one that is negative or malformed stays what it is, and is refused."""
    if seconds < 0 or not 0 <= nanos < 1_000_000_000:
        return f"{seconds}s {nanos}ns"
    return f"{seconds}.{nanos:09d}s" if nanos else f"{seconds}s"


def _write(message: Message, plain: dict[str, Any], *, exact: bool) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in plain.items():
        field: Any = fields[name]
        if _is_map(field):
            getattr(message, name).update(value)
        elif field.type == FieldDescriptor.TYPE_ENUM:
            numbers = [_enum_number(field, word) for word in (value if field.is_repeated else [value])]
            if field.is_repeated:
                getattr(message, name).extend(numbers)
            else:
                setattr(message, name, numbers[0])
        elif field.type != FieldDescriptor.TYPE_MESSAGE:
            if field.is_repeated:
                getattr(message, name).extend(value)
            else:
                setattr(message, name, value)
        elif field.is_repeated:
            for item in value:
                _write(getattr(message, name).add(), item, exact=exact)
        else:
            _write_message(message, field, value, exact=exact)


def _write_message(message: Message, field: Any, value: Any, *, exact: bool) -> None:
    kind, name = field.message_type.full_name, field.name
    if kind == _DURATION:
        microseconds = duration_us(value) or 0
        part = getattr(message, name)
        part.seconds, rest = divmod(microseconds, SECOND)
        part.nanos = rest * 1_000
        part.SetInParent()
    elif kind == _STRUCT:
        put_struct(
            message, name, dump_json(value), exact=exact or not _fits_struct(value, STRUCT_NESTING_MAX)
        )
        if not exact and value == {}:
            getattr(message, name).SetInParent()
    elif kind == _VALUE:
        put_value(message, name, dump_json(value), exact=exact or not _fits_struct(value, STRUCT_NESTING_MAX))
    else:
        part = getattr(message, name)
        part.SetInParent()
        _write(part, value, exact=exact)


def _enum_number(field: Any, word: str) -> int:
    """Number of an unprefixed word: the one value whose name ends in it, after the enum's own prefix."""
    values = field.enum_type.values
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    return int(field.enum_type.values_by_name[prefix + word].number)


def _fits_struct(value: Any, nesting: int) -> bool:
    """Whether a Struct gives back what is put in: its numbers are doubles, of which whole ones come back as integers."""
    if isinstance(value, float):
        return not (value.is_integer() and abs(value) <= WHOLE_MAX)
    if isinstance(value, int):
        return abs(value) <= WHOLE_MAX
    if isinstance(value, dict | list) and nesting == 0:
        return False
    if isinstance(value, dict):
        return all(_fits_struct(item, nesting - 1) for item in value.values())
    if isinstance(value, list):
        return all(_fits_struct(item, nesting - 1) for item in value)
    return True


def _is_map(field: Any) -> bool:
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)
