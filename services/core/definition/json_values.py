"""What JSON within a definition may hold: bounded in size and nesting, no NUL, no NaN, valid Unicode, text keys."""

from __future__ import annotations

import math
from typing import Any

from services.core.errors import Problem
from services.core.units import MIB

DEFINITION_BYTES_MAX = 4 * MIB
NESTING_MAX = 64
PROBLEMS_MAX = 100
# What every reader of JSON here, and CEL, can hold as an integer.
INTEGER_MIN = -(1 << 63)
INTEGER_MAX = (1 << 64) - 1


def check_json(value: Any) -> list[Problem]:
    """Problems of a JSON value, by path. Stops at the size limit, so shared parts cannot unfold without end."""
    problems: list[Problem] = []
    size = 0
    # A stack of its own: nesting is judged here before anything recurses into the value.
    waiting: list[tuple[Any, str, int]] = [(value, "", 1)]
    while waiting and len(problems) < PROBLEMS_MAX:
        item, path, depth = waiting.pop()
        # The least that a value takes as JSON: a digit and a comma.
        size += 2
        if isinstance(item, str):
            size += len(item)
            if fault := _text_fault(item):
                problems.append(Problem(path, "INVALID_TEXT", fault))
        elif isinstance(item, dict | list):
            if depth > NESTING_MAX:
                problems.append(Problem(path, "TOO_DEEP", f"is nested deeper than {NESTING_MAX}"))
                continue
            if isinstance(item, list):
                waiting.extend((part, f"{path}[{index}]", depth + 1) for index, part in enumerate(item))
            else:
                size += _push_fields(item, path, depth, waiting, problems)
        elif fault := _scalar_fault(item):
            problems.append(Problem(path, "INVALID_VALUE", fault))
        if size > DEFINITION_BYTES_MAX:
            return [Problem("", "TOO_LARGE", f"is larger than {DEFINITION_BYTES_MAX} bytes")]
    problems.reverse()
    return problems


def _push_fields(
    item: dict[Any, Any], path: str, depth: int, waiting: list[tuple[Any, str, int]], problems: list[Problem]
) -> int:
    size = 0
    for key, part in item.items():
        if not isinstance(key, str):
            problems.append(Problem(path, "INVALID_KEY", f"the key {str(key)[:40]!r} is no text; quote it"))
            continue
        size += len(key)
        if fault := _text_fault(key):
            problems.append(Problem(path, "INVALID_KEY", f"a key {fault}"))
            continue
        shown = key[:80]
        waiting.append((part, f"{path}.{shown}" if path else shown, depth + 1))
    return size


def _text_fault(text: str) -> str:
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "holds a lone surrogate, which is no valid Unicode"
    return ""


def _scalar_fault(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"is {value}, which is no JSON number"
    if isinstance(value, int):
        return (
            "" if INTEGER_MIN <= value <= INTEGER_MAX else "is an integer beyond 64 bits; write it as a text"
        )
    if value is None:
        return ""
    return f"is a {type(value).__name__}, which is no JSON"


def type_name(value: Any) -> str:
    """Name of a JSON value's type, for people."""
    if value is None:
        return "null"
    names = {
        bool: "a bool",
        int: "an integer",
        float: "a double",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")
