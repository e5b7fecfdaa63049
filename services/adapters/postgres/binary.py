"""PostgreSQL's binary format for our plain values: ids are raw bytes, instants integers, arrays one piece.

Batches travel as arrays (`unnest`), and psycopg's own array dumpers cost more than the insert. Here an array
is packed once, with its type fixed, so that a prepared statement always fits. Format: `array_recv`,
`uuid_recv`, `timestamptz_recv` of PostgreSQL.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import psycopg
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970
INFINITY_US = 2**63 - 1
# What packing a value raises that no column of its type can hold.
UNPACKABLE = (ValueError, OverflowError, struct.error, orjson.JSONEncodeError)

_BOOL, _BYTEA, _INT8, _INT2, _INT4, _TEXT = 16, 17, 20, 21, 23, 25
_TIMESTAMPTZ, _UUID, _JSONB = 1184, 2950, 3802
_ARRAYS = {
    _BOOL: 1000, _BYTEA: 1001, _INT8: 1016, _INT2: 1005, _INT4: 1007, _TEXT: 1009,
    _TIMESTAMPTZ: 1185, _UUID: 2951, _JSONB: 3807,
}  # fmt: skip

_pack_length = struct.Struct("!i").pack
_pack_int2 = struct.Struct("!h").pack
_pack_int4 = struct.Struct("!i").pack
_pack_int8 = struct.Struct("!q").pack
_unpack_int8 = struct.Struct("!q").unpack
_pack_head = struct.Struct("!iiiii").pack
_pack_empty = struct.Struct("!iii").pack
_NULL = b"\xff\xff\xff\xff"


class Packed:
    """A value in binary format, ready to send. Made by the functions below; the class names the type."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Uuid(Packed):
    """A uuid, given as 16 raw bytes."""


class Timestamp(Packed):
    """A timestamptz, given as microseconds since 1970."""

    def __init__(self, at: int) -> None:
        super().__init__(_pack_int8(at - POSTGRES_EPOCH_US))


class Bigint(Packed):
    """A bigint whatever its size, so that a prepared statement keeps its types."""

    def __init__(self, value: int) -> None:
        super().__init__(_pack_int8(value))


class Smallint(Packed):
    """A smallint."""

    def __init__(self, value: int) -> None:
        super().__init__(_pack_int2(value))


class Jsonb(Packed):
    """A jsonb of a plain JSON value."""

    def __init__(self, value: Any) -> None:
        super().__init__(_jsonb(value))


class BoolArray(Packed): ...


class BytesArray(Packed): ...


class BigintArray(Packed): ...


class SmallintArray(Packed): ...


class IntegerArray(Packed): ...


class TextArray(Packed): ...


class TimestampArray(Packed): ...


class UuidArray(Packed): ...


class JsonbArray(Packed): ...


def _array(element: int, parts: Iterable[bytes | None]) -> bytes:
    chunks: list[bytes] = []
    count, nulls = 0, 0
    for part in parts:
        count += 1
        if part is None:
            nulls = 1
            chunks.append(_NULL)
        else:
            chunks.append(_pack_length(len(part)))
            chunks.append(part)
    if not count:
        return _pack_empty(0, 0, element)
    return _pack_head(1, nulls, element, count, 1) + b"".join(chunks)


def _jsonb(value: Any) -> bytes:
    return b"\x01" + orjson.dumps(value)


def _text(value: str) -> bytes:
    # A lone surrogate becomes bytes that the server refuses as data, like any other bad text.
    return value.encode("utf-8", "surrogatepass")


def uuids(values: Iterable[bytes | None]) -> UuidArray:
    """uuid[] of 16 raw bytes each."""
    return UuidArray(_array(_UUID, values))


def byteas(values: Iterable[bytes | None]) -> BytesArray:
    """bytea[]."""
    return BytesArray(_array(_BYTEA, values))


def bigints(values: Iterable[int]) -> BigintArray:
    """bigint[]."""
    return BigintArray(_array(_INT8, map(_pack_int8, values)))


def integers(values: Iterable[int]) -> IntegerArray:
    """integer[]."""
    return IntegerArray(_array(_INT4, map(_pack_int4, values)))


def smallints(values: Iterable[int]) -> SmallintArray:
    """smallint[]."""
    return SmallintArray(_array(_INT2, map(_pack_int2, values)))


def booleans(values: Iterable[bool]) -> BoolArray:
    """boolean[]."""
    return BoolArray(_array(_BOOL, (b"\x01" if value else b"\x00" for value in values)))


def texts(values: Iterable[str | None]) -> TextArray:
    """text[]."""
    return TextArray(_array(_TEXT, (None if value is None else _text(value) for value in values)))


def timestamps(values: Iterable[int | None]) -> TimestampArray:
    """timestamptz[] of microseconds since 1970."""
    return TimestampArray(
        _array(_TIMESTAMPTZ, (None if v is None else _pack_int8(v - POSTGRES_EPOCH_US) for v in values)),
    )


def jsonbs(values: Iterable[Mapping[str, Any]]) -> JsonbArray:
    """jsonb[] of plain JSON objects."""
    return JsonbArray(_array(_JSONB, (_jsonb(value) for value in values)))


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Packed) -> bytes:
        return obj.data


def _dumper(type_oid: int) -> type[_PackedDumper]:
    return type("PackedDumper", (_PackedDumper,), {"oid": type_oid})


class _UuidLoader(Loader):
    format = Format.BINARY

    def load(self, data: psycopg.abc.Buffer) -> bytes:
        return bytes(data)


class _TimestampLoader(Loader):
    format = Format.BINARY

    def load(self, data: psycopg.abc.Buffer) -> int:
        value: int = _unpack_int8(data)[0]
        if value in {INFINITY_US, -INFINITY_US - 1}:
            return value
        return value + POSTGRES_EPOCH_US


class _JsonbLoader(Loader):
    format = Format.BINARY

    def load(self, data: psycopg.abc.Buffer) -> Any:
        return orjson.loads(memoryview(data)[1:])


_CLASSES: dict[type[Packed], int] = {
    Uuid: _UUID, Timestamp: _TIMESTAMPTZ, Bigint: _INT8, Smallint: _INT2, Jsonb: _JSONB,
    BoolArray: _ARRAYS[_BOOL], BytesArray: _ARRAYS[_BYTEA], BigintArray: _ARRAYS[_INT8],
    SmallintArray: _ARRAYS[_INT2], IntegerArray: _ARRAYS[_INT4], TextArray: _ARRAYS[_TEXT],
    TimestampArray: _ARRAYS[_TIMESTAMPTZ], UuidArray: _ARRAYS[_UUID], JsonbArray: _ARRAYS[_JSONB],
}  # fmt: skip
_DUMPERS = {packed: _dumper(oid) for packed, oid in _CLASSES.items()}


def register(connection: psycopg.AsyncConnection[Any]) -> None:
    """Teach a connection these types. Results must be asked for in binary."""
    for packed, dumper in _DUMPERS.items():
        connection.adapters.register_dumper(packed, dumper)
    connection.adapters.register_loader(_UUID, _UuidLoader)
    connection.adapters.register_loader(_TIMESTAMPTZ, _TimestampLoader)
    connection.adapters.register_loader(_JSONB, _JsonbLoader)
