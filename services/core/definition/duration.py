"""Durations as people write them: `500ms`, `1.5s`, `30s`, `5m`, `2h`, `3d`, or a number of seconds."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from services.core.units import DAY, HOUR, MICROSECOND, MILLISECOND, MINUTE, SECOND

# Longest duration anywhere: a hundred years. Keeps every instant within a database's and a datetime's reach.
DURATION_MAX_US = 36_525 * DAY

_UNITS = {"us": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_PART = re.compile(r"(\d{1,18}(?:\.\d{1,12})?)(us|ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+\Z")
_TEXT_MAX = 64


def duration_us(value: Any) -> int | None:
    """Whole microseconds of a duration; None for what is none, is negative or over the maximum."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if not math.isfinite(value) or not 0 <= value * SECOND <= DURATION_MAX_US:
            return None
        return round(value * SECOND)
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        return None
    text = value.strip()
    if not text.isascii() or not _WHOLE.match(text):
        return None
    total = sum((Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(text)), Decimal(0))
    if total > DURATION_MAX_US:
        return None
    return round(total)


def seconds(microseconds: int) -> int | float:
    """Seconds as canonical JSON has them: an integer when whole, else a double."""
    whole, rest = divmod(microseconds, SECOND)
    return microseconds / SECOND if rest else whole


def duration_text(microseconds: int) -> str:
    """Shortest text in one unit that `duration_us` reads back: `90s`, `2h`, `1.5s`, `500ms`."""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", MILLISECOND)):
        if microseconds and microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    return f"{microseconds}us" if microseconds else "0s"
