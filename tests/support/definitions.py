"""Definitions for tests: short ways to write them, and strategies that make any."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from services.core.definition.fields import (
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
    camel_case,
    fields_of,
)
from services.core.definition.model import Definition, Edge, Fallback, Node
from services.core.units import DAY

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS
JSON = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def noops(*ids: str) -> tuple[Node, ...]:
    """Nodes that do nothing."""
    return tuple(Node(node_id, "noop") for node_id in ids)


def edges(*pairs: str) -> tuple[Edge, ...]:
    """Edges from texts such as `a>b` or `a.error>b`."""
    made: list[Edge] = []
    for pair in pairs:
        left, target = pair.split(">")
        source, _, port = left.partition(".")
        made.append(Edge(source, target, port or "out"))
    return tuple(made)


def graph(nodes: str, *pairs: str) -> Definition:
    """Definition of noop nodes (`a b c`) and edges (`a>b`)."""
    return Definition("graph", noops(*nodes.split()), edges(*pairs))


@st.composite
def plain_records(draw: st.DrawFn, record: type[Any] = Definition, depth: int = 0) -> dict[str, Any]:
    """Any record in the plain shape that can be parsed; not all of them make sense."""
    plain: dict[str, Any] = {}
    optional = [field.name for field in fields_of(record) if not field.required]
    chosen = draw(st.sets(st.sampled_from(optional), max_size=3)) if optional else set()
    for field in fields_of(record):
        if not field.required and field.name not in chosen:
            continue
        if isinstance(field.kind, Record) and depth > 1:
            continue
        if record is Fallback and plain:
            continue
        value = draw(_values(field.kind, depth))
        if field.required and _blank(value):
            value = draw(_values(field.kind, depth).filter(lambda made: not _blank(made)))
        plain[camel_case(field.plain) if draw(st.booleans()) else field.plain] = value
    return plain


def _blank(value: Any) -> bool:
    return value == [] or (isinstance(value, str) and not value.strip())


def _values(kind: Kind, depth: int) -> st.SearchStrategy[Any]:
    match kind:
        case Text(limit):
            return TEXTS.map(lambda text: text[:limit])
        case Word(choices, prefix):
            return _words(choices, prefix)
        case Choice(enum, prefix):
            return _words([member.value for member in enum], prefix)
        case ExpressionText():
            return TEXTS
        case Integer(low, high):
            return st.integers(low, high)
        case Number():
            return st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 100)
        case Boolean():
            return st.booleans()
        case Duration():
            whole = st.integers(0, 366 * DAY)
            return whole.map(lambda us: f"{us}us") | st.integers(0, 10**6) | st.sampled_from(["5m", "1.5s"])
        case JsonValue():
            return JSON
        case JsonFields():
            return st.dictionaries(TEXTS, JSON, max_size=3)
        case Labels():
            return st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=3)
        case Record(record):
            return plain_records(record, depth + 1)
        case Many(of):
            return st.lists(_values(of, depth + 1), max_size=2)


def _words(words: Any, prefix: str) -> st.SearchStrategy[str]:
    spellings = [lambda w: w, lambda w: w.lower(), lambda w: prefix + w]
    return st.tuples(st.sampled_from(list(words)), st.sampled_from(spellings)).map(
        lambda pair: pair[1](pair[0])
    )
