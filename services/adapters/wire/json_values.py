"""JSON values at the edge: `google.protobuf.Struct` or `Value` for people, exact JSON bytes for programs.

Inside there are only JSON bytes, checked once when they come in. A Struct number that is whole and at most 2^53 in
size is an integer, any other a double; exact JSON keeps what was written.
"""

from __future__ import annotations

from typing import Any

import orjson
from google.protobuf import struct_pb2

NESTING_MAX = 64
WHOLE_MAX = 2.0**53


class JsonRefused(ValueError):
    """What came is not JSON that we take; the text says why, for the client."""


def parse_json(data: bytes) -> Any:
    """Plain Python of JSON bytes. Raises JsonRefused for bad syntax, deep nesting, or text with NUL."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise JsonRefused(f"it is not valid JSON: {str(error)[:200]}") from None
    if data.count(b"{") + data.count(b"[") > NESTING_MAX and nesting(value) > NESTING_MAX:
        raise JsonRefused(f"it is nested deeper than {NESTING_MAX} levels")
    if b"\\u0000" in data and _has_nul(value):
        raise JsonRefused("a text holds the character NUL")
    return value


def struct_to_plain(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Plain Python of a Struct. Raises JsonRefused for NaN, infinity, NUL and values without a kind."""
    return {_text(name): _plain(value) for name, value in struct.fields.items()}


def value_to_plain(value: struct_pb2.Value) -> Any:
    """Plain Python of a Value. Raises JsonRefused as `struct_to_plain`."""
    return _plain(value)


def dump_json(value: Any) -> bytes:
    """JSON bytes of plain Python."""
    return orjson.dumps(value)


def put_struct(message: Any, field: str, data: bytes, *, exact: bool) -> None:
    """Fill the oneof of a `Struct` field and its `…_json` twin; what is no object goes as bytes either way."""
    if not exact:
        value = orjson.loads(data)
        if isinstance(value, dict):
            getattr(message, field).MergeFrom(_struct(value))
            return
    setattr(message, f"{field}_json", data)


def put_value(message: Any, field: str, data: bytes, *, exact: bool) -> None:
    """Fill the oneof of a `Value` field and its `…_json` twin."""
    if exact:
        setattr(message, f"{field}_json", data)
    else:
        getattr(message, field).MergeFrom(value_of(orjson.loads(data)))


def value_of(value: Any) -> struct_pb2.Value:
    """The Value that stands for plain Python."""
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if value is True or value is False:
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, dict):
        return struct_pb2.Value(struct_value=_struct(value))
    if isinstance(value, list):
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[value_of(item) for item in value]))
    return struct_pb2.Value(number_value=value)


def nesting(value: Any) -> int:
    """How many objects and lists lie within one another."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, dict):
            children = list(item.values())
        elif isinstance(item, list):
            children = item
        else:
            continue
        deepest = max(deepest, depth)
        waiting.extend((child, depth + 1) for child in children if isinstance(child, dict | list))
    return deepest


def _struct(value: dict[str, Any]) -> struct_pb2.Struct:
    return struct_pb2.Struct(fields={name: value_of(item) for name, item in value.items()})


def _plain(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return _text(value.string_value)
    if kind == "number_value":
        return _number(value.number_value)
    if kind == "struct_value":
        return struct_to_plain(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "bool_value":
        return value.bool_value
    if kind == "null_value":
        return None
    raise JsonRefused("a value has no kind")


def _number(number: float) -> int | float:
    if number != number or number in (float("inf"), float("-inf")):
        raise JsonRefused("a number is NaN or infinite")
    if -WHOLE_MAX <= number <= WHOLE_MAX and number == int(number):
        return int(number)
    return number


def _text(text: str) -> str:
    if "\0" in text:
        raise JsonRefused("a text holds the character NUL")
    return text


def _has_nul(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if "\0" in item:
                return True
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False
