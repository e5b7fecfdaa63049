"""What is refused of expressions: names, types, what the input schema says."""

from __future__ import annotations

import pytest

from tests.support.reviews import edge, node, reasons


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nodes.b.output.x", ""),
        ("nodes.b.error.type", ""),
        ("nodes.b", ""),
        ("nodes.b.outputs", "UNKNOWN_FIELD"),
        ("nodes.zz.output", "UNKNOWN_NODE"),
        ("nodes.c.output", "NOT_UPSTREAM"),
        ("nodes.a.output", "NOT_UPSTREAM"),
        ("nodes['b'].output", "UNKNOWN_NODE"),
        ("execution.id", ""),
        ("execution.labels.x", ""),
        ("execution.idd", "UNKNOWN_FIELD"),
        ("vars.known", ""),
        ("vars.unknown", "UNKNOWN_VARIABLE"),
        ("now", ""),
        ("secrets.KEY", "NOT_SUPPORTED"),
        ("item.x", "NOT_SUPPORTED"),
        ("index + 1", "NOT_SUPPORTED"),
        ("input.l.map(item, item.x)", ""),
        ("1 +", "INVALID_EXPRESSION"),
        ("nope(1)", "INVALID_EXPRESSION"),
        ("'a' + 1", "INVALID_EXPRESSION"),
        ("optional.of(1)", "EXPRESSION_TYPE"),
        ("input.?x.orValue(1)", ""),
        ("type(1)", "EXPRESSION_TYPE"),
        ("execution.version + 'x'", "INVALID_EXPRESSION"),
        ("'x'" + " + 'x'" * 1000, "TOO_LONG"),
    ],
)
def test_texts(text: str, reason: str) -> None:
    nodes = [
        node("b"),
        node("a", parameters={"p": "${" + text + "}"}),
        node("c"),
        node("s", "set", parameters={"vars": {"known": 1}}),
    ]
    found = reasons(nodes=nodes, edges=[edge("b", "a")])
    # What is longer than an expression may be is not even looked for the end of.
    reason = "INVALID_TEMPLATE" if reason == "TOO_LONG" else reason
    assert found == ({"nodes[1].parameters.p": reason} if reason else {})


def test_deciding_texts_are_bools() -> None:
    nodes = [node("a", when="1 + 1"), node("b", when="'x'"), node("c", when="nodes.a.output.x")]
    links = [edge("a", "b", when="size('x')"), edge("a", "c", when="nodes.c.output")]
    assert reasons(nodes=nodes, edges=links) == {
        "nodes[0].when": "EXPRESSION_TYPE",
        "nodes[1].when": "EXPRESSION_TYPE",
        "edges[0].when": "EXPRESSION_TYPE",
        "edges[1].when": "NOT_UPSTREAM",
    }


SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "n": {"type": "integer"},
        "s": {"type": "string"},
        "any": {"type": ["string", "null"]},
        "o": {"type": "object", "additionalProperties": False, "properties": {"deep": {"type": "boolean"}}},
        "maybe": {"properties": {"x": {"type": "string"}}, "additionalProperties": False},
        "l": {"type": "array", "items": {"type": "string"}},
        "p": {"type": "object", "additionalProperties": False, "patternProperties": {"^x": {}}},
    },
}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("input.n + 1", ""),
        ("input.n + 1.5", "INVALID_EXPRESSION"),
        ("input.n == 1.5 || input.n in [1.5]", ""),
        ("input.n == 'x'", "INVALID_EXPRESSION"),
        ("input.n > 1.5", ""),
        ("input.s + 1", "INVALID_EXPRESSION"),
        ("input.any + 1", ""),
        ("input.nope", "UNKNOWN_INPUT"),
        ("has(input.nope)", "UNKNOWN_INPUT"),
        ("has(input.s) && input.s != '' ? input.s : 'x'", ""),
        ("has( input.o.deep ) && has(execution.labels.x)", ""),
        ("input.o.deep && true", ""),
        ("input.o.deep + 1", "INVALID_EXPRESSION"),
        ("input.o.nope", "UNKNOWN_INPUT"),
        ("input.maybe.nope", ""),
        ("input.l.exists(x, x + 1 > 0)", "INVALID_EXPRESSION"),
        ("input.l[0] + 'x'", ""),
        ("input.p.xyz", ""),
        ("input['nope']", ""),
    ],
)
def test_what_the_input_schema_says(text: str, reason: str) -> None:
    found = reasons(nodes=[node("a", parameters={"p": "${" + text + "}"})], input_schema=SCHEMA)
    assert found == ({"nodes[0].parameters.p": reason} if reason else {})


def test_input_schemas() -> None:
    assert reasons(
        nodes=[node("a")], input_schema={"type": "objec", "properties": {"a": {"minimum": "x"}}}
    ) == {
        "input_schema.type": "INVALID_SCHEMA",
        "input_schema.properties.a.minimum": "INVALID_SCHEMA",
    }
    for schema in ({"$ref": "https://elsewhere.example/s"}, {"pattern": "("}, {"$ref": "#/nope"}, [1]):
        assert list(reasons(nodes=[node("a")], input_schema=schema).values()) == ["INVALID_SCHEMA"]
    assert reasons(nodes=[node("a")], input_schema=True) == {}


def test_first_values_of_variables_are_constants() -> None:
    assert reasons(nodes=[node("a")], vars={"x": ["${ input.y }"], "z": "$${"}) == {
        "vars.x[0]": "NOT_SUPPORTED"
    }
