"""Bounds that the CEL library does not have: how much of the bindings is converted, and how far values may grow.

Its budget counts iterations, not memory: `['x'].map(a, a + a)` chained twenty-eight times asks for 8 GB. So what an
expression could make of its values is estimated, from its text when it is compiled and from the values when it is
evaluated, and refused beyond a bound. The estimate is of the worst case and generous: ordinary expressions over
ordinary values stay far below.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from services.adapters.cel_errors import shown
from services.core.errors import ExpressionError
from services.core.references import paths_in, tokens
from services.core.units import MIB

# What an expression may make of its values in the worst case, in characters and items.
GROWTH_MAX = 256 * MIB
# How many times over one value may be repeated by the text alone; 2^12 is twelve doublings.
REPETITION_MAX = 4_096
# The library's own budget of iterations.
ITERATIONS_MAX = 10_000
# Items of a list that `map` and `filter` take: the library copies what they have built for each item, and ten
# thousand take seconds.
BUILT_ITEMS_MAX = 2_000
# Characters and items that an expression may look at: an iteration may scan a text or compare a list each time, and a
# long list with a long text took 18 s, in which nothing else of the process runs.
WORK_MAX = 100 * 1000 * 1000
# A text split into pieces of this length is taken for a list.
SPLIT_CHARACTERS = 8
# Additions that need no look at the values.
ADDITIONS_FREE = 16
PATH_DEPTH_MAX = 4

_COMPREHENSIONS = frozenset(
    {"map", "filter", "all", "exists", "exists_one", "existsOne", "optMap", "optFlatMap"}
)
_COMPARISONS = frozenset({"in", "<", ">"})
_BUILDING = frozenset({"map", "filter"})
_GROWING_FUNCTIONS = frozenset({"join", "replace", "format"})
_LITERAL_REPLACE = re.compile(r"\breplace\(\s*(?:'[^'\\]*'|\"[^\"\\]*\")\s*,\s*(?:'[^'\\]*'|\"[^\"\\]*\")")

# Tree of the keys that are used of a value; None: all of it.
Parts = dict[str, Any] | None


class Bounds:
    """How far the values of one expression may grow. `growing`: `check` must see the values before each evaluation."""

    __slots__ = (
        "_builds",
        "_iterates",
        "_literal",
        "_operations",
        "_repetition",
        "_source",
        "_splits",
        "_squares",
        "growing",
    )

    def __init__(self, source: str, names: Collection[str] = ()) -> None:
        """Raises `ExpressionError` when the text alone repeats a value too often. `names` are those of the bindings."""
        self._source = source
        counts, functions = _read(source)
        self._operations = _operations_inside(source, frozenset(names))
        self._iterates = len(counts) > 1
        self._repetition = 1
        for count in counts:
            self._repetition *= 1 + count
        if self._repetition > REPETITION_MAX:
            raise ExpressionError(f"{shown(source)}: repeats its values too often; leave that to a handler")
        self._literal = len(source)
        replacements = len(re.findall(r"\breplace\(", source)) - len(_LITERAL_REPLACE.findall(source))
        self._squares = replacements > 0
        self._builds = not functions.isdisjoint(_BUILDING)
        self._splits = "split" in functions
        repetition_free = 1 if self._iterates else ADDITIONS_FREE
        self.growing = (
            self._builds
            or self._operations > 0
            or self._repetition > repetition_free
            or not functions.isdisjoint(_GROWING_FUNCTIONS)
        )

    def check(self, data: Mapping[str, Any]) -> None:
        """Raises `ExpressionError` when the expression could make too much of these values."""
        longest, widest = _measure(data)
        if self._splits:
            widest = max(widest, longest // SPLIT_CHARACTERS)
        if self._builds and widest > BUILT_ITEMS_MAX:
            raise ExpressionError(
                f"{shown(self._source)}: maps or filters some {widest} items, more than {BUILT_ITEMS_MAX};"
                " leave that to a handler"
            )
        if self._operations * min(widest, ITERATIONS_MAX) * (longest + widest) > WORK_MAX:
            raise ExpressionError(
                f"{shown(self._source)}: looks at texts of {longest} characters and lists of {widest} items again and"
                " again; leave that to a handler"
            )
        longest = max(longest, self._literal)
        growth = self._repetition * longest * (min(widest, ITERATIONS_MAX) if self._iterates else 1)
        if self._squares:
            growth *= longest
        if growth > GROWTH_MAX:
            raise ExpressionError(
                f"{shown(self._source)}: could grow beyond {GROWTH_MAX // MIB} MiB, with texts of {longest} characters"
                f" and lists of {widest} items; leave that to a handler"
            )


def _read(source: str) -> tuple[list[int], frozenset[str]]:
    """Additions and commas by comprehension (the expression outside of them first), and the functions called."""
    counts = [0]
    inside = [0]
    brackets: list[int | None] = []
    functions: set[str] = set()
    before = ""
    for token in tokens(source):
        if token.text == "(":
            functions.add(before)
            if before in _COMPREHENSIONS:
                # The comma after the variable repeats nothing, but for optMap, which repeats what it is called on.
                counts.append(0 if before.startswith("opt") else -1)
                inside.append(len(counts) - 1)
                brackets.append(1)
            else:
                brackets.append(None)
        elif token.text in ("[", "{") and token.kind == "mark":
            brackets.append(None)
        elif token.text in (")", "]", "}") and token.kind == "mark":
            if brackets and brackets.pop() is not None:
                inside.pop()
        elif token.text == "+" or (token.text == "," and len(inside) > 1):
            counts[inside[-1]] += 1
        before = token.text
    return [max(count, 0) for count in counts], frozenset(functions)


def _operations_inside(source: str, names: frozenset[str]) -> int:
    """Calls and comparisons inside comprehensions that see more there than the item they are at, 0 when none does.

    Such a one looks at a name of the bindings, or at the item of another comprehension around it.
    """
    operations = 0
    sees_more = False
    # For each open bracket whether it is a comprehension's.
    brackets: list[bool] = []
    before = ""
    for token in tokens(source):
        depth = sum(brackets)
        if token.text in ("(", "[", "{"):
            opens = token.text == "(" and before in _COMPREHENSIONS
            brackets.append(opens)
            sees_more = sees_more or (opens and depth > 0)
            operations += depth > 0
        elif token.text in (")", "]", "}"):
            if brackets:
                brackets.pop()
        elif depth:
            # `==` and `!=` are two tokens each.
            operations += token.text in _COMPARISONS or (token.text == "=" and before in ("=", "!"))
            sees_more = sees_more or (token.text in names and before != ".")
        before = token.text
    return operations if sees_more else 0


def _measure(value: Any) -> tuple[int, int]:
    """Longest text and widest list or object within a value; 1 at least."""
    longest = widest = 1
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            longest = max(longest, len(item))
        elif isinstance(item, dict):
            widest = max(widest, len(item))
            waiting.extend(item.values())
        elif isinstance(item, list):
            widest = max(widest, len(item))
            waiting.extend(item)
    return longest, widest


def parts_used(source: str, names: Collection[str]) -> dict[str, Parts]:
    """For each name the parts of its value that the text uses: fields selected by plain paths, else all of it."""
    used: dict[str, Parts] = {name: {} for name in names}
    for path in paths_in(source):
        dotted = ".".join(path.parts[:2])
        name, rest = (path.parts[0], path.parts[1:]) if path.parts[0] in used else (dotted, path.parts[2:])
        if name in used:
            used[name] = _with_path(used[name], rest[:PATH_DEPTH_MAX])
    return {name: parts or None for name, parts in used.items()}


def _with_path(parts: Parts, path: tuple[str, ...]) -> Parts:
    if parts is None or not path:
        return None
    return {**parts, path[0]: _with_path(parts.get(path[0], {}), path[1:])}


def part_of(value: Any, parts: Parts) -> Any:
    """The used parts of a value; what is missing stays missing."""
    if parts is None or type(value) is not dict:
        return value
    return {key: part_of(value[key], below) for key, below in parts.items() if key in value}
