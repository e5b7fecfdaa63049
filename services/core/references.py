"""What an expression refers to, found by reading its tokens: no evaluator is needed.

The reader knows CEL's lexical rules (strings of every form, comments, numbers, names) and one rule of its
grammar: a name after a dot that follows an operand is a field, a name before `(` is a function; every other
name is looked up in the expression's surroundings. A comprehension's own variable that carries the name of
something in sight counts as a mention of it, which only ever declares or refuses too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

# Names that every expression of a definition may use.
BASE_NAMES = ("input", "vars", "execution", "now")

# Fields of `nodes.<id>`.
NODE_FIELDS = frozenset({"output", "status", "error", "attempts"})

# Words that CEL keeps for itself: neither names nor, as a node id, reachable as `nodes.<id>`.
CEL_WORDS = frozenset({"in", "true", "false", "null"})
RESERVED_WORDS = CEL_WORDS | {
    *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
    *("namespace", "package", "return", "var", "void", "while"),
}

_SPACE = r"[ \t\r\n\f]+|//[^\n]*"
_RAW = r"""(?:[bB]?[rR]|[rR][bB])(?:\"\"\".*?\"\"\"|'''.*?'''|"[^"\n\r]*"|'[^'\n\r]*')"""
_ESCAPED = (
    r"""[bB]?(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''"""
    r"""|"(?:[^"\\\n\r]|\\.)*"|'(?:[^'\\\n\r]|\\.)*')"""
)
_STRING = rf"{_RAW}|{_ESCAPED}"
_NUMBER = r"0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\d+|\.\d+)(?:[eE][+-]?\d+)?[uU]?"
_TOKEN = re.compile(
    rf"(?P<space>{_SPACE})|(?P<string>{_STRING})|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    rf"|(?P<number>{_NUMBER})|(?P<mark>.)",
    re.DOTALL,
)

# The same, with names joined to the chains that dots make of them and the `(` of a call.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|`[A-Za-z0-9_.\-/ ]+`")
_DOT = r"[ \t\r\n\f]*\.[ \t\r\n\f]*"
_CHAIN = re.compile(
    rf"(?P<space>{_SPACE})|(?P<string>{_STRING})"
    rf"|(?P<chain>(?:\.[ \t\r\n\f]*)?[A-Za-z_][A-Za-z0-9_]*(?:{_DOT}(?:{_NAME.pattern}))*(?:[ \t\r\n\f]*\()?)"
    rf"|(?P<number>{_NUMBER})|(?P<mark>.)",
    re.DOTALL,
)

# A path of plain names, which is what most expressions are.
PLAIN_PATH = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)\s*\Z")

_AFTER_OPERAND = frozenset(")]}")


class Token(NamedTuple):
    """One token of an expression: `kind` is string, name, number or mark."""

    kind: str
    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Path:
    """A name looked up in the surroundings, with the fields selected from it: `input.a` is ("input", "a")."""

    parts: tuple[str, ...]
    start: int

    def __str__(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True, slots=True)
class Mentions:
    """Everything an expression looks up. `nodes` maps an id to the fields selected from it, "" for the
    whole.
    """

    paths: tuple[Path, ...] = ()
    nodes: dict[str, frozenset[str]] = field(default_factory=dict)
    base: frozenset[str] = frozenset()
    whole_nodes: bool = False

    def names(self) -> tuple[str, ...]:
        """Names to declare, sorted: the base names and nodes that are mentioned."""
        return tuple(sorted([*self.base, *("nodes." + node for node in self.nodes)]))

    def roots(self) -> frozenset[str]:
        """First parts of all paths."""
        return frozenset(path.parts[0] for path in self.paths)


@dataclass(frozen=True, slots=True)
class References:
    """What a text needs to be evaluated: `nodes` are indices in the definition, in ascending order."""

    nodes: tuple[int, ...] = ()
    input: bool = False
    vars: bool = False
    execution: bool = False
    now: bool = False

    def __or__(self, other: References) -> References:
        nodes = self.nodes
        if other.nodes and other.nodes != nodes:
            nodes = tuple(sorted({*nodes, *other.nodes}))
        return References(
            nodes,
            self.input or other.input,
            self.vars or other.vars,
            self.execution or other.execution,
            self.now or other.now,
        )


NO_REFERENCES = References()


def tokens(source: str, start: int = 0) -> Iterator[Token]:
    """Tokens of an expression from `start` on, without spaces and comments. Reads any text without failing."""
    for match in _TOKEN.finditer(source, start):
        kind = match.lastgroup or "mark"
        if kind != "space":
            yield Token(kind, match.group(), match.start())


@lru_cache(4_096)
def paths_in(source: str) -> tuple[Path, ...]:
    """Every path that an expression looks up, in order of appearance."""
    found: list[Path] = []
    operand = False
    for match in _CHAIN.finditer(source):
        kind = match.lastgroup
        text = match.group()
        if kind == "chain":
            _add_path(found, text, match.start(), operand=operand)
            operand = not text.endswith("(") and text not in CEL_WORDS - {"true", "false", "null"}
        elif kind != "space":
            operand = kind != "mark" or text in _AFTER_OPERAND
    return tuple(found)


def _add_path(found: list[Path], text: str, start: int, *, operand: bool) -> None:
    """Adds the path of a chain of names, unless it is a field of something computed, a word or a function."""
    if operand and text[0] == ".":
        return
    names = _NAME.findall(text)
    if text[-1] == "(":
        names.pop()
    if names and names[0] == "in":
        # `x in .input.y`: the operator, then a path from the root.
        names = names[1:]
    if names and names[0] not in CEL_WORDS:
        found.append(Path(tuple(name.strip("`") for name in names), start))


def mentions(source: str) -> Mentions:
    """What an expression looks up, sorted by kind."""
    paths = paths_in(source)
    nodes: dict[str, set[str]] = {}
    base: set[str] = set()
    whole = False
    for path in paths:
        root = path.parts[0]
        if root == "nodes":
            if len(path.parts) == 1:
                whole = True
            else:
                nodes.setdefault(path.parts[1], set()).add(path.parts[2] if len(path.parts) > 2 else "")
        elif root in BASE_NAMES:
            base.add(root)
    return Mentions(tuple(paths), {node: frozenset(f) for node, f in nodes.items()}, frozenset(base), whole)
