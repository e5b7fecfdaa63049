"""Parameters are compiled once and resolved afresh for every task."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson
import pytest

from services.adapters.cel import CelCompiler
from services.core.errors import ExpressionError
from services.core.expressions import Program
from services.runner.parameters import Parameters


class Counting:
    def __init__(self) -> None:
        self.compiled: list[str] = []
        self._cel = CelCompiler()

    def compile(self, source: str, names: Collection[str]) -> Program:
        self.compiled.append(source)
        return self._cel.compile(source, names)


def test_values_come_from_the_bindings() -> None:
    parameters = Parameters(CelCompiler())
    text = orjson.dumps(
        {"a": "${ input.x + nodes.b.output.y }", "b": ["to ${ vars.who }", "$${ as is }", 1.5]}
    )
    bindings = orjson.dumps({"input": {"x": 1}, "nodes.b": {"output": {"y": 2}}, "vars": {"who": "you"}})
    assert parameters.resolve(text, bindings) == {"a": 3, "b": ["to you", "${ as is }", 1.5]}


def test_the_same_bytes_are_compiled_once() -> None:
    compiler = Counting()
    parameters = Parameters(compiler, compiled_max=2)
    one, two, three = (orjson.dumps(f"${{ input + {n} }}") for n in (1, 2, 3))
    for text in (one, two, one, three, one):
        parameters.resolve(text, b'{"input":1}')
    assert len(compiler.compiled) == 3
    parameters.resolve(two, b'{"input":1}')
    assert len(compiler.compiled) == 4


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1], "b": {"c": 2}},
        {"a": [1], "b": "${ input }"},
        {"a": {"deep": [{"deeper": []}], "b": "${ input }"}},
        ["${ input }", [1]],
        {"text": "$${", "a": [1]},
    ],
)
def test_a_handler_may_change_what_it_gets(value: Any) -> None:
    parameters = Parameters(CelCompiler())
    text = orjson.dumps(value)
    first = parameters.resolve(text, b'{"input":[7]}')
    expected = orjson.dumps(first)
    spoil(first)
    assert orjson.dumps(parameters.resolve(text, b'{"input":[7]}')) == expected


def spoil(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            spoil(item)
        value["spoilt"] = True
    elif isinstance(value, list):
        for item in value:
            spoil(item)
        value.append("spoilt")


def test_nothing_and_nonsense() -> None:
    parameters = Parameters(CelCompiler())
    assert parameters.resolve(b"", b"") == {}
    with pytest.raises(ExpressionError, match="not JSON"):
        parameters.resolve(b"{", b"")
