"""Mergeable summaries of durations: DDSketch, 2 % relative error (Masson, Rim, Lee: VLDB 2019), as bytes."""

from __future__ import annotations

from collections.abc import Iterable

from ddsketch import DDSketch
from ddsketch.pb import ddsketch_pb2
from ddsketch.pb.proto import DDSketchProto

RELATIVE_ERROR = 0.02


def sketch_of(durations_us: Iterable[int]) -> bytes:
    """Sketch of durations in microseconds."""
    sketch = DDSketch(RELATIVE_ERROR)
    for duration in durations_us:
        sketch.add(float(duration))
    return _bytes(sketch)


def merge(stored: bytes, new: bytes) -> bytes:
    """One sketch of two."""
    merged = _sketch(stored)
    merged.merge(_sketch(new))
    return _bytes(merged)


def quantile_us(sketch: bytes, quantile: float) -> float:
    """Duration in microseconds at a quantile (0–1); 0 for an empty sketch."""
    return float(_sketch(sketch).get_quantile_value(quantile) or 0.0)


def _sketch(data: bytes) -> DDSketch:
    return DDSketchProto.from_proto(ddsketch_pb2.DDSketch.FromString(data))


def _bytes(sketch: DDSketch) -> bytes:
    data: bytes = DDSketchProto.to_proto(sketch).SerializeToString()
    return data
