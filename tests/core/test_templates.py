"""Templates and the reader of references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import ExpressionError
from services.core.references import NO_REFERENCES, References, mentions, tokens
from services.core.templates import (
    Embedded,
    Expression,
    compile_template,
    expressions_in,
    split_text,
)
from tests.support.definitions import JSON


class _Named:
    """Program that looks its source up as a name."""

    def __init__(self, source: str) -> None:
        self.source = source

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        return bindings[self.source]


def named(source: str) -> Expression:
    return Expression(source, _Named(source), References(input=source == "input", vars=source == "vars"))


def resolved(value: Any, **bindings: Any) -> Any:
    return compile_template(value, named).resolve(bindings)


def test_a_whole_expression_keeps_its_type() -> None:
    for value in (None, True, 1, 1.5, "x", [1], {"a": 1}):
        assert resolved("${ x }", x=value) == value
        assert resolved({"a": [{"b": "${x}"}]}, x=value) == {"a": [{"b": value}]}


def test_inside_text_everything_becomes_text() -> None:
    values = {"s": "é", "i": 3, "d": 1.0, "t": True, "n": None, "l": [1, "a"], "o": {"k": "é"}}
    assert resolved("${s} ${i} ${d} ${t} ${n} ${l} ${o}", **values) == 'é 3 1.0 true null [1,"a"] {"k":"é"}'
    assert resolved(" ${i}", i=1) == " 1"
    assert resolved("${i}${i}", i=1) == "11"


def test_a_literal_is_written_with_two_dollars() -> None:
    assert resolved("$${ x }") == "${ x }"
    assert resolved("$$${ x }") == "$${ x }"
    assert resolved("a$b$") == "a$b$"
    assert resolved("$${${x}", x=1) == "${1"


def test_keys_are_not_templated() -> None:
    assert resolved({"${x}": "${x}"}, x=1) == {"${x}": 1}


def test_strings_and_braces_inside_an_expression_are_understood() -> None:
    for source in ('{"a": "}"}', "{'a': {'b': '}'}}.a", "'''}'''", '"\\"}"', "r'\\'", "'a' // }\n", "x['}']"):
        assert split_text("${" + source + "}") == (Embedded(source.strip()),)
        assert split_text("a${" + source + "}b") == ("a", Embedded(source.strip()), "b")


@pytest.mark.parametrize("text", ["${", "${ }", "${}", "a ${ x", '${ "', "${ { }", "${" + "x" * 5000 + "}"])
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(ExpressionError):
        split_text(text)


def test_a_constant_is_shared() -> None:
    template = compile_template({"a": ["x", "$${y}", 1]}, named)
    assert template.constant
    assert template.references == NO_REFERENCES
    assert template.resolve({}) == {"a": ["x", "${y}", 1]}
    assert template.resolve({}) is template.resolve({})


def test_references_of_a_template_are_those_of_its_expressions() -> None:
    template = compile_template(["${input}", {"b": "x ${vars}"}], named)
    assert not template.constant
    assert template.references == References(input=True, vars=True)


def test_expressions_are_found_with_their_paths() -> None:
    value = {"a": ["${x}", "$${no}", "${y} ${z}"], "b": {"c": "${"}}
    found = list(expressions_in(value, "parameters"))
    assert found[:3] == [("parameters.a[0]", "x"), ("parameters.a[2]", "y"), ("parameters.a[2]", "z")]
    assert found[3][0] == "parameters.b.c"
    assert isinstance(found[3][1], ExpressionError)


PIECES = ["${", "}", "$", "{", "'", '"', '"""', "'''", "\\", "//", "\n", "r'", "x", " ", "`", "$${"]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join))
def test_the_scanner_reads_anything(text: str) -> None:
    try:
        parts = split_text(text)
    except ExpressionError:
        return
    assert parts
    assert all(part.source if isinstance(part, Embedded) else isinstance(part, str) for part in parts)


@given(st.text(max_size=60))
def test_tokens_cover_the_text_in_order(text: str) -> None:
    end = 0
    for token in tokens(text):
        assert token.start >= end
        assert text.startswith(token.text, token.start)
        end = token.start + len(token.text)
    mentions(text)


@given(JSON)
def test_without_an_expression_a_template_is_its_value(value: Any) -> None:
    if not list(expressions_in(value)) and "$" not in str(value):
        assert resolved(value) == value


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("input.a.b + nodes.x.output.y.size()", ["input.a.b", "nodes.x.output.y"]),
        ("has(input.a) ? vars['x'] : [1].map(v, v.a)", ["input.a", "vars", "v", "v.a"]),
        ("'input.a' + r'\\' + input.z // vars.q\n + now", ["input.z", "now"]),
        ("f(input).nodes.a", ["input"]),
        ("[1].input", []),
        ("{'a': .input.x}", ["input.x"]),
        ("input . a\n.b", ["input.a.b"]),
        ("1.5 + .5e3 + 0x1F + input.b", ["input.b"]),
        ("x in .input.l", ["x", "input.l"]),
        ("'''a ' input''' + input", ["input"]),
        ("rb'\\' + input", ["input"]),
        ("input.`a-b`.c", ["input.a-b.c"]),
        ("true && !null", []),
        ("input // c\n .x", ["input"]),
    ],
)
def test_paths(source: str, paths: list[str]) -> None:
    assert [str(path) for path in mentions(source).paths] == paths


def test_mentions_by_kind() -> None:
    found = mentions("nodes.a.output.x > 1 && nodes.a.status == 'success' && nodes.b == null && now > input")
    assert found.nodes == {"a": frozenset({"output", "status"}), "b": frozenset({""})}
    assert found.names() == ("input", "nodes.a", "nodes.b", "now")
    assert not found.whole_nodes
    assert mentions("nodes['a']").whole_nodes
    assert mentions("size(nodes)").whole_nodes
