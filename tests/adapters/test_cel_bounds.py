"""What CEL is kept from: growth without end, conversion of what is not used; and the paths that never reach it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapters.cel import RESULT_SIZE_MAX, CelCompiler
from services.adapters.cel_bounds import part_of, parts_used
from services.core.errors import ExpressionError
from services.core.paths import PathProgram
from tests.support.definitions import JSON

CEL = CelCompiler()


def value(source: str, **bindings: Any) -> Any:
    return CEL.compile(source, bindings.keys()).evaluate(bindings)


def error(source: str, **bindings: Any) -> str:
    with pytest.raises(ExpressionError) as raised:
        value(source, **bindings)
    return str(raised.value)


@pytest.mark.parametrize(
    "source",
    [
        "['x']" + ".map(a, a + a)" * 28,
        "[['x']]" + ".map(a, [a, a])" * 28,
        "[1].map(a, [1].map(b, [1].map(c, "
        + "'x' + " * 20
        + "'y')).map(d, "
        + "'x' + " * 20
        + "'y')).map(e, e + '"
        + "' + '" * 20
        + "')",
        "optional.of('x')" + ".optMap(a, a + a)" * 28 + ".orValue('')",
        "optional.of('x')" + ".optMap(a, a)" * 28 + ".orValue('')",
    ],
)
def test_doublings_are_refused_before_they_unfold(source: str) -> None:
    assert "too often" in error(source)
    with pytest.raises(ExpressionError, match="too often"):
        CEL.check(source, {})


@pytest.mark.parametrize(
    ("source", "binding"),
    [
        ("input.s.replace('', input.s)", {"s": "x" * 200_000}),
        ("input.l.map(i, input.s + 'x').size()", {"s": "x" * 200_000, "l": list(range(1_900))}),
        ("input.l.map(i, input.s).join(',').size()", {"s": "x" * 200_000, "l": list(range(1_900))}),
        ("input.l.map(i, i)", {"l": list(range(2_001))}),
        ("input.l.filter(i, i > 0)", {"l": list(range(2_001))}),
        ("input.s.split(',').map(i, i)", {"s": "x," * 20_000}),
    ],
)
def test_growth_is_refused_by_the_values(source: str, binding: Any) -> None:
    assert "leave that to a handler" in error(source, input=binding)


def test_ordinary_work_is_far_below_the_bounds() -> None:
    items = [{"name": "n" * 30, "price": 2, "count": 3}] * 1_500
    assert (
        value("sum(input.items.map(i, double(i.price) * double(i.count)))", input={"items": items}) == 9000.0
    )
    joined = value("input.items.map(i, i.name + ': ' + string(i.price)).join(', ')", input={"items": items})
    assert len(joined) == 1_500 * 35 - 2
    assert value("input.text.replace('a', 'bb').size()", input={"text": "a" * 100_000}) == 200_000
    assert value("input.l.exists(i, i == 8999)", input={"l": list(range(9_000))}) is True


def test_results_are_bounded_as_they_unfold() -> None:
    half = "x" * (RESULT_SIZE_MAX // 2)
    assert len(value("[input.s]", input={"s": half})[0]) == len(half)
    assert "larger than" in error("[input.s, input.s, input.s]", input={"s": half})
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert "nested deeper" in error("[input]", input=deep)


def test_only_the_parts_used_are_converted() -> None:
    source = "nodes.a.output.b.c > 1 && input.x.exists(k, k.z) && vars['x'] == 2 && nodes.b.status == 'x' && input.y.z"
    assert parts_used(source, ["nodes.a", "nodes.b", "input", "vars"]) == {
        "nodes.a": {"output": {"b": {"c": None}}},
        "nodes.b": {"status": None},
        "input": {"x": None, "y": {"z": None}},
        "vars": None,
    }
    # The other parts may hold what CEL has no value for.
    assert value("input.k + 1", input={"k": 1, "other": object()}) == 2


@given(
    JSON,
    st.sampled_from(
        ["input.a", "input.a.b == 1", "has(input.a.b) && has(input.c)", "input['a'].b", "[input.a.b]"]
    ),
)
def test_parts_mean_the_same_as_the_whole(binding: Any, source: str) -> None:
    whole = CEL._compile(source, ("input",))
    parts = parts_used(source, ["input"])["input"]
    assert outcome(whole, {"input": part_of(binding, parts)}) == outcome(whole, {"input": binding})


def outcome(program: Any, bindings: dict[str, Any]) -> Any:
    try:
        # As JSON, which tells 1, 1.0 and true apart and keys in order.
        return json.dumps(program.evaluate(bindings), sort_keys=True)
    except ExpressionError:
        return ExpressionError


NAMES = st.sampled_from(["a", "b", "output", "size"])
TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text("aé", max_size=3)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)


@given(TREES, st.lists(NAMES, max_size=4), st.sampled_from(["input", "vars", "nodes.n"]))
def test_a_plain_path_means_what_cel_says(binding: Any, fields: list[str], root: str) -> None:
    source = ".".join([root, *fields])
    path = CEL.compile(source, [root])
    assert isinstance(path, PathProgram)
    assert outcome(path, {root: binding}) == outcome(CEL._compile(source, (root,)), {root: binding})


@pytest.mark.parametrize(
    "source",
    ["input.in", "input.true", "input.a.null", "true", "null", "input" + ".a" * 40, "input.a()", "other.x"],
)
def test_what_is_no_plain_path_goes_to_cel(source: str) -> None:
    try:
        program = CEL.compile(source, ["input"])
    except ExpressionError:
        return
    assert not isinstance(program, PathProgram)
