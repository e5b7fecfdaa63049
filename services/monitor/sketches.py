"""Mergeable summaries of durations, as bytes.

Up to 32 durations are kept as they are (`v`, then 8 bytes each): most nodes run a few times a minute, and making a
sketch costs more than running the node. More become a DDSketch with 2 % relative error (`d`, then its protobuf;
Masson, Rim, Lee: VLDB 2019).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

from ddsketch import DDSketch
from ddsketch.pb import ddsketch_pb2
from ddsketch.pb.proto import DDSketchProto

RELATIVE_ERROR = 0.02
VALUES_MAX = 32
_VALUES, _SKETCH = b"v", b"d"


def sketch_of(durations_us: Iterable[int]) -> bytes:
    """Summary of durations in microseconds."""
    values = list(durations_us)
    if len(values) <= VALUES_MAX:
        return _VALUES + struct.pack(f"<{len(values)}Q", *values)
    return _bytes(_filled(values))


def merge(stored: bytes, new: bytes) -> bytes:
    """One summary of two."""
    if stored[:1] == new[:1] == _VALUES and len(stored) + len(new) <= 2 + 8 * VALUES_MAX:
        return stored + new[1:]
    merged = _sketch(stored)
    merged.merge(_sketch(new))
    return _bytes(merged)


def quantile_us(sketch: bytes, quantile: float) -> float:
    """Duration in microseconds at a quantile (0–1); 0 for an empty summary."""
    if sketch[:1] == _VALUES:
        values = sorted(_values(sketch))
        return float(values[max(math.ceil(quantile * len(values)) - 1, 0)]) if values else 0.0
    return float(_sketch(sketch).get_quantile_value(quantile) or 0.0)


def _values(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{(len(data) - 1) // 8}Q", data[1:])


def _filled(values: Iterable[int]) -> DDSketch:
    sketch = DDSketch(RELATIVE_ERROR)
    for value in values:
        sketch.add(float(value))
    return sketch


def _sketch(data: bytes) -> DDSketch:
    if data[:1] == _VALUES:
        return _filled(_values(data))
    return DDSketchProto.from_proto(ddsketch_pb2.DDSketch.FromString(data[1:]))


def _bytes(sketch: DDSketch) -> bytes:
    data: bytes = DDSketchProto.to_proto(sketch).SerializeToString()
    return _SKETCH + data
