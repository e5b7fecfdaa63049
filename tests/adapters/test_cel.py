"""CEL behind its port: values, errors that name the cure, bounds, and the library's traps."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from services.adapters.cel import CelCompiler
from services.core.errors import ExpressionError

CEL = CelCompiler()


def value(source: str, **bindings: Any) -> Any:
    return CEL.compile(source, bindings.keys()).evaluate(bindings)


def error(source: str, **bindings: Any) -> str:
    with pytest.raises(ExpressionError) as raised:
        value(source, **bindings)
    return str(raised.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("null", None),
        ("1 + 1", 2),
        ("1.0", 1.0),
        ("7 / 2", 3),
        ("'a' + 'b'", "ab"),
        ("[1, 'x', null]", [1, "x", None]),
        ("{'a': {'b': [true]}}", {"a": {"b": [True]}}),
        ("{1: 'x'}", {"1": "x"}),
        ("{false: 'x'}", {"false": "x"}),
        ("18446744073709551615u", 18446744073709551615),
        ("b'abc'", "YWJj"),
        ("timestamp('2020-01-01T00:00:00Z')", "2020-01-01T00:00:00Z"),
        ("timestamp('2020-01-01T02:00:00.5+02:00')", "2020-01-01T00:00:00.500000Z"),
        ("duration('1h30m')", "5400s"),
        ("duration('-1.5s')", "-1.5s"),
        ("duration('0s')", "0s"),
        ("timestamp('2020-01-01T00:00:00Z') + duration('1s') > timestamp('2020-01-01T00:00:00Z')", True),
        ("'a,b'.split(',')", ["a", "b"]),
        ("'%s %d'.format(['a', 1])", "a 1"),
        ("math.greatest(1, 2.5)", 2.5),
        ("{'a': 1}.?b.orValue(3)", 3),
        ("'aa'.matches('^a+$')", True),
        ("dyn(1) < 1.5 && dyn(1) == 1.0", True),
        ("sum([])", 0),
        ("sum([1, 2])", 3),
        ("sum([1, 2.5])", 3.5),
        ("[1, 2, 3].filter(x, x > 1).map(x, double(x))", [2.0, 3.0]),
    ],
)
def test_values_come_out_as_json(source: str, expected: Any) -> None:
    result = value(source)
    assert result == expected
    assert type(result) is type(expected)


def test_bindings() -> None:
    big = {"a": [1, 2.5, None, True, "é", {"b": 9223372036854775807}]}
    assert value("input", input=big) == big
    assert value("[input, input.a]", input=big) == [big, big["a"]]
    program = CEL.compile("nodes.a.output.x + vars.y > 2", ["nodes.a", "vars"])
    assert program.evaluate({"nodes.a": {"output": {"x": 1}}, "vars": {"y": 2}, "unused": object()}) is True
    assert CEL.compile("nodes.a.attempts == nodes.b.attempts", ["nodes.a", "nodes.b"]).evaluate(
        {"nodes.a": {"attempts": 1}, "nodes.b": {"attempts": 1}}
    )


def test_only_declared_names_are_in_sight() -> None:
    assert "undeclared reference to 'vars" in error("vars.x", input={})
    with pytest.raises(ExpressionError, match=r"nodes\.b\.output"):
        CEL.compile("nodes.a.output == nodes.b.output", ["nodes.a"])
    with pytest.raises(ExpressionError, match="undeclared reference"):
        CEL.compile("nodes", ["input"])
    with pytest.raises(ExpressionError, match="`input` has no value here"):
        CEL.compile("input.x + 1", ["input"]).evaluate({})
    with pytest.raises(ExpressionError, match="`input` has no value here"):
        CEL.compile("input.x", ["input"]).evaluate({})


@pytest.mark.parametrize(
    ("source", "binding", "said"),
    [
        ("input + 1.0", 1, ["`input + 1.0`", "`+` has no form for (int, double)", "double(x)"]),
        ("'a' + input", 1, ["(string, int)", "string(x)"]),
        ("input.a + 1", {}, ["no key `a`", "has("]),
        ("input.a + 1", 3, ["no object"]),
        ("input[5] + 1", [1], ["no item 5 in a list of 1"]),
        ("input && true", 1, ["takes bools only", "comparison"]),
        ("!input", 1, ["`!` takes bools only"]),
        ("input ? 1 : 2", 1, ["before `?` is no bool"]),
        ("input + 9223372036854775807", 1, ["overflows 64 bits"]),
        ("1 / input", 0, ["divided by zero"]),
        ("1.0 / double(input)", 0, ["inf", "no number"]),
        ("0.0 / double(input)", 0, ["nan"]),
        ("input == 1", 2**70, ["beyond 64 bits"]),
        ("sum(input)", ["a"], ["sum() adds numbers", "item 0 is str"]),
        ("sum(input)", [2**62] * 4, ["overflows"]),
        ("sum(input)", "x", ["`sum` has no form for (string)"]),
        ("int(input)", "x", ["cannot convert string to int"]),
        ("type(input)", 1, ["no JSON"]),
        ("optional.of(input)", 1, ["orValue"]),
        ("optional.none()", 1, ["orValue"]),
        ("'a\\x00'", 1, ["NUL"]),
        ("size(input)", "\ud800", ["surrogate"]),
        ("input.map(a, input.map(b, input.map(c, 1)))", list(range(50)), ["too many items"]),
        ("input.map(a, input.map(b, input.all(c, true)))", list(range(50)), ["too many items"]),
    ],
)
def test_errors_name_the_expression_the_types_and_the_cure(
    source: str, binding: Any, said: list[str]
) -> None:
    text = error(source, input=binding)
    assert text.startswith("`")
    for words in said:
        assert words in text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 +", "Syntax error"),
        ("foo(1)", "undeclared reference to 'foo'"),
        ("1 + 1.0", "write `double(x)`"),
        ("true ? 1 : 'a'", "`? :` has no form for (bool, int, string)"),
        ("1 in 2", "`in` has no form for (int, int)"),
        ("+".join(["1"] * 60), "nested too deeply"),
        ("'" + "x" * 4096 + "'", "at most 4096 bytes"),
        ("", "not empty"),
        ("'\ud800'", "surrogates"),
        ("1\0", "NUL"),
        ("package", "reserved identifier"),
    ],
)
def test_what_does_not_compile(source: str, said: str) -> None:
    assert said in error(source)


def test_the_type_of_an_expression_is_known_where_it_can_be() -> None:
    assert CEL.check("1 + 1", {}) == "int"
    assert CEL.check("input.x", {"input": "dyn"}) == "dyn"
    assert CEL.check("input.x == 1", {"input": "map"}) == "bool"
    assert CEL.check("timestamp('2020-01-01T00:00:00Z')", {}) == "timestamp"
    types = {"input": "map", "input.s": "string", "input.l": "list<int>"}
    assert CEL.check("input.s != '' ? input.s : 'x'", types) == "string"
    assert CEL.check("input.l.map(x, x + 1)", types) == "list"
    with pytest.raises(ExpressionError, match=r"\(string, int\)"):
        CEL.check("input.s + 1", types)


def test_programs_are_shared() -> None:
    assert CEL.compile("input.x + 1", ["input"]) is CEL.compile("input.x + 1", ["input"])


_NULLS = """
from services.adapters.cel import CelCompiler
program = CelCompiler().compile("[input.x, null][0]", ["input"])
for _ in range(100_000):
    assert program.evaluate({"input": {"x": None}}) is None
print("alive")
"""


def test_a_hundred_thousand_nulls_do_not_abort_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NULLS], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr[-500:]


@pytest.mark.parametrize(
    "source",
    [
        "input.list.all(x, input.list == input.list)",
        "input.list.all(x, input.text.indexOf('b') < x)",
        "input.list.all(x, input.text.matches('(a*)*b') == false)",
        "[input.list].all(x, x.all(y, x != [y]))",
    ],
)
def test_no_expression_looks_at_large_values_again_and_again(source: str) -> None:
    """Each took up to 40 s of a process in which nothing else ran meanwhile: a scheduler lost its session over it."""
    values = {"input": {"list": list(range(40_000)), "text": "a" * 200_000}}
    began = time.monotonic()
    with pytest.raises(ExpressionError, match="again and again"):
        CelCompiler().compile(source, ["input"]).evaluate(values)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "source",
    [
        "input.list.all(x, x.type == input.type && x.price >= 0)",
        "input.list.exists(x, x.price == 2999)",
        "input.short.all(x, input.short.exists(y, y == x))",
        "input.short.all(x, !input.text.contains('b'))",
    ],
)
def test_ordinary_expressions_over_long_lists_are_evaluated(source: str) -> None:
    listed = [{"type": "a", "price": price} for price in range(3_000)]
    values = {"input": {"list": listed, "type": "a", "short": list(range(90)), "text": "a" * 100_000}}
    assert CelCompiler().compile(source, ["input"]).evaluate(values) is True
