"""What saving a version refuses, and where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from services.adapters.cel import CelCompiler
from services.adapters.json_schema import JsonSchemas
from services.core.definition.parse import parse_definition
from services.core.errors import Problem, Severity
from services.core.graph import compile_workflow
from services.core.validation import review, validate
from tests.support.definitions import plain_records

CEL = CelCompiler()
SCHEMAS = JsonSchemas()


def problems(**plain: Any) -> list[Problem]:
    known = plain.pop("known_types", None)
    definition, found = review({"name": "w", **plain}, CEL, known, schemas=SCHEMAS)
    assert (definition is None) == any(problem.severity is Severity.ERROR for problem in found)
    return found


def reasons(**plain: Any) -> dict[str, str]:
    return {problem.path: problem.reason for problem in problems(**plain)}


def node(node_id: str, node_type: str = "x", **fields: Any) -> dict[str, Any]:
    return {"id": node_id, "type": node_type, **fields}


def edge(source: str, target: str, **fields: Any) -> dict[str, Any]:
    return {"source": source, "target": target, **fields}


ORDER = {
    "input_schema": {
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {"type": "array", "minItems": 1},
            "shop": {"type": "string", "format": "uri"},
        },
    },
    "vars": {"currency": "EUR"},
    "timeout": "2m",
    "default_retry_policy": {"max_attempts": 3, "backoff": "EXPONENTIAL", "base_delay": "2s", "jitter": 0.2},
    "nodes": [
        node(
            "price",
            "http.request",
            parameters={"method": "POST", "url": "${ input.shop }/p", "json": {"c": "${ vars.currency }"}},
        ),
        node("stock", "http.request", parameters={"url": "${ input.shop }/s"}),
        node("gathered", "merge", join="ALL_TAKEN", parameters={"mode": "BY_NODE"}),
        node(
            "big",
            "condition",
            when="nodes.gathered.status == 'success'",
            parameters={"condition": "nodes.price.output.body.total > 100.0"},
        ),
        node("discount", "set", parameters={"vars": {"discount": 0.1}}),
        node(
            "charge",
            "shop.charge",
            parameters={"d": "${ has(vars.discount) ? vars.discount : 0.0 }"},
            priority="HIGH",
        ),
        node("refused", "fail", parameters={"type": "OUT_OF_STOCK", "message": "no ${ input.shop }"}),
    ],
    "edges": [
        edge("price", "gathered"),
        edge("stock", "gathered", when="nodes.stock.output.body.available"),
        edge("stock", "refused", when="!nodes.stock.output.body.available"),
        edge("stock", "refused", port="error", error_types=["NETWORK"]),
        edge("gathered", "big"),
        edge("big", "discount", port="true"),
        edge("big", "charge", port="false"),
        edge("discount", "charge"),
    ],
    "output": {"total": "${ nodes.price.output.body.total }"},
}


def test_a_sound_definition_has_no_problems() -> None:
    assert reasons(**ORDER) == {}
    assert reasons(**ORDER, known_types=["shop.charge"]) == {}


def test_a_type_no_runner_announced_is_a_warning() -> None:
    found = problems(**ORDER, known_types=["shop.change"])
    assert [(p.path, p.reason, p.severity) for p in found] == [
        ("nodes[5].type", "UNKNOWN_TYPE", Severity.WARNING)
    ]
    assert "did you mean `shop.change`" in found[0].message


def test_ids() -> None:
    assert reasons(
        nodes=[node("a"), node("a"), node("1a"), node("in"), node("namespace"), node("a-b"), node("ä")]
    ) == {
        "nodes[1].id": "DUPLICATE_ID",
        "nodes[2].id": "INVALID_ID",
        "nodes[3].id": "RESERVED_WORD",
        "nodes[4].id": "RESERVED_WORD",
        "nodes[5].id": "INVALID_ID",
        "nodes[6].id": "INVALID_ID",
    }
    assert reasons(nodes=[node("a", "no type"), node("b", task_queue="Über")]) == {
        "nodes[0].type": "INVALID_TYPE",
        "nodes[1].task_queue": "INVALID_TASK_QUEUE",
    }


def test_edges() -> None:
    nodes = [node("a"), node("b"), node("c", "condition", parameters={"condition": "true"}), node("e", "end")]
    edges = [
        edge("a", "b"),
        edge("a", "b"),
        edge("a", "bb"),
        edge("x", "b"),
        edge("a", "a"),
        edge("c", "b"),
        edge("e", "b"),
        edge("a", "c", error_types=["NETWORK"]),
        edge("a", "e", port="error", error_types=["NETWORK"]),
    ]
    assert reasons(nodes=nodes, edges=edges) == {
        "edges[1]": "DUPLICATE_EDGE",
        "edges[2].target": "UNKNOWN_NODE",
        "edges[3].source": "UNKNOWN_NODE",
        "edges[4]": "SELF_EDGE",
        "edges[5].port": "UNKNOWN_PORT",
        "edges[6].port": "UNKNOWN_PORT",
        "edges[7].error_types": "NO_EFFECT",
    }


def test_a_cycle_is_named() -> None:
    found = problems(
        nodes=[node("a"), node("b"), node("c")], edges=[edge("a", "b"), edge("b", "c"), edge("c", "b")]
    )
    assert [(problem.path, problem.reason) for problem in found] == [("edges", "CYCLE")]
    assert "`b` → `c` → `b`" in found[0].message


def test_joins() -> None:
    nodes = [
        node("a"),
        node("q", join="QUORUM", quorum=2),
        node("n", quorum=1),
        node("m", "merge"),
        node("c", cancel_others=True),
    ]
    assert reasons(nodes=nodes, edges=[edge("a", "q")]) == {
        "nodes[1].quorum": "OUT_OF_RANGE",
        "nodes[2].quorum": "NO_EFFECT",
        "nodes[3]": "NOTHING_TO_MERGE",
        "nodes[4].cancel_others": "NO_EFFECT",
    }


@pytest.mark.parametrize(
    ("node_type", "parameters", "expected"),
    [
        ("condition", None, {"condition": "REQUIRED"}),
        ("condition", {"condition": True}, {"condition": "WRONG_TYPE"}),
        ("condition", {"condition": "1 + 1"}, {"condition": "EXPRESSION_TYPE"}),
        ("condition", {"condition": "${ input.x }"}, {"condition": "INVALID_EXPRESSION"}),
        ("condition", {"condition": "true", "else": 1}, {"else": "UNKNOWN_FIELD"}),
        ("switch", {"cases": [{"port": "a", "when": "true"}]}, {"default": "REQUIRED"}),
        ("switch", {"default": "error"}, {"default": "INVALID_PORT"}),
        (
            "switch",
            {
                "default": "d",
                "cases": [{"port": "a", "when": "'x'"}, {"port": "a"}, 3, {"prt": "b", "when": "true"}],
            },
            {
                "cases[0].when": "EXPRESSION_TYPE",
                "cases[1].port": "DUPLICATE_PORT",
                "cases[1].when": "REQUIRED",
                "cases[2]": "WRONG_TYPE",
                "cases[3].prt": "UNKNOWN_FIELD",
                "cases[3].port": "INVALID_PORT",
            },
        ),
        ("switch", {"default": "d", "cases": 1}, {"cases": "WRONG_TYPE"}),
        ("set", None, {"vars": "REQUIRED"}),
        ("set", {"vars": {"a-b": 1}}, {"vars.a-b": "INVALID_NAME"}),
        ("set", {"vars": [1]}, {"vars": "WRONG_TYPE"}),
        ("delay", {}, {"": "REQUIRED"}),
        ("delay", {"duration": "1s", "until": "now"}, {"": "REQUIRED"}),
        ("delay", {"duration": "soon"}, {"duration": "INVALID_DURATION"}),
        ("delay", {"duration": "${ input.x }"}, {}),
        ("delay", {"duration": "${ nope }"}, {"duration": "INVALID_EXPRESSION"}),
        ("delay", {"until": "1"}, {"until": "EXPRESSION_TYPE"}),
        ("delay", {"until": "timestamp(now) + duration('1m')"}, {}),
        ("fail", {"type": 1, "message": []}, {"type": "WRONG_TYPE", "message": "WRONG_TYPE"}),
        ("end", {"out": 1}, {"out": "UNKNOWN_FIELD"}),
        ("noop", {"x": 1}, {"x": "UNKNOWN_FIELD"}),
        ("noop", [], {}),
        (
            "http.request",
            {"method": "FETCH", "json": 1, "body": "x"},
            {"url": "REQUIRED", "method": "UNKNOWN_VALUE", "body": "CONFLICT"},
        ),
        ("http.request", {"url": "${ input.u }", "method": "get", "headers": []}, {"headers": "WRONG_TYPE"}),
        ("transform", {}, {"value": "REQUIRED"}),
        ("log", {"level": "LOUD"}, {"message": "REQUIRED", "level": "UNKNOWN_VALUE"}),
        ("log", {"message": "x", "level": "warn", "data": 1}, {}),
        ("x", [1, "${ input.x }"], {}),
    ],
)
def test_parameters(node_type: str, parameters: Any, expected: dict[str, str]) -> None:
    found = reasons(nodes=[node("a", node_type, parameters=parameters)])
    assert found == {
        f"nodes[0].parameters{'.' if path else ''}{path}": reason for path, reason in expected.items()
    } or (node_type == "noop" and found == {"nodes[0].parameters": "WRONG_TYPE"})


def test_policies() -> None:
    bad = {
        "coefficient": 0.5,
        "jitter": 2,
        "base_delay": "2s",
        "max_delay": "1s",
        "retryable_errors": ["POISON"],
        "max_elapsed": "400d",
    }
    assert reasons(
        timeout="500ms",
        default_retry_policy=bad,
        nodes=[
            node("a", retry_policy={"jitter": -1}, timeouts={"schedule_to_start": 0, "heartbeat": "400d"})
        ],
    ) == {
        "timeout": "OUT_OF_RANGE",
        "default_retry_policy.coefficient": "OUT_OF_RANGE",
        "default_retry_policy.jitter": "OUT_OF_RANGE",
        "default_retry_policy.max_delay": "OUT_OF_RANGE",
        "default_retry_policy.retryable_errors[0]": "NO_EFFECT",
        "default_retry_policy.max_elapsed": "OUT_OF_RANGE",
        "nodes[0].retry_policy.jitter": "OUT_OF_RANGE",
        "nodes[0].timeouts.schedule_to_start": "OUT_OF_RANGE",
        "nodes[0].timeouts.heartbeat": "OUT_OF_RANGE",
    }


def test_what_has_no_effect_is_said() -> None:
    found = problems(
        nodes=[
            node("a", "noop", retry_policy={"max_attempts": 2}, task_queue="q", timeouts={"heartbeat": "1s"}),
            node("b", timeouts={"start_to_close": "2s", "schedule_to_close": "1s", "heartbeat": "3s"}),
        ]
    )
    assert {problem.path: (problem.reason, problem.severity) for problem in found} == {
        "nodes[0].timeouts": ("NOT_SUPPORTED", Severity.ERROR),
        "nodes[0].retry_policy": ("NO_EFFECT", Severity.WARNING),
        "nodes[0].task_queue": ("NO_EFFECT", Severity.WARNING),
        "nodes[1].timeouts.start_to_close": ("NO_EFFECT", Severity.WARNING),
        "nodes[1].timeouts.heartbeat": ("NO_EFFECT", Severity.WARNING),
    }


def test_waits_that_cannot_end_in_time_are_warned_of() -> None:
    def delay(node_id: str, length: str, **fields: Any) -> dict[str, Any]:
        return node(node_id, "delay", parameters={"duration": length}, **fields)

    path = [delay("a", "40s"), delay("b", "40s")]
    assert reasons(timeout="1m", nodes=path) == {}
    assert reasons(timeout="1m", nodes=path, edges=[edge("a", "b")]) == {
        "nodes[1].parameters.duration": "WAIT_TOO_LONG"
    }
    assert reasons(nodes=[delay("a", "10m")]) == {"nodes[0].parameters.duration": "WAIT_TOO_LONG"}
    ways = [*path, delay("c", "30s", join="ANY")]
    assert reasons(timeout="75s", nodes=ways, edges=[edge("a", "b"), edge("a", "c"), edge("b", "c")]) == {
        "nodes[1].parameters.duration": "WAIT_TOO_LONG"
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("circuit_breaker", {"key": "'k'"}),
        ("fallback", {"value": 1}),
        ("for_each", {"items": "input.l"}),
        ("repeat", {"until": "true", "max_iterations": 3}),
        ("cache", {"key": "'k'", "ttl": "1d"}),
        ("compensate_with", {"type": "x"}),
    ],
)
def test_fields_of_nodes_that_this_build_does_not_run(field: str, value: Any) -> None:
    assert reasons(nodes=[node("a", **{field: value})]) == {f"nodes[0].{field}": "NOT_SUPPORTED"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("concurrency", {"key": "'k'", "limit": 1}),
        ("rate_limit", {"key": "'k'", "count": 1, "period": "1s"}),
        ("on_failure", {"workflow": "w"}),
        ("cleanup", [{"id": "z", "type": "log"}]),
        ("notify", {"states": ["FAILED"], "url": "https://x.example"}),
        ("rollback", "MANUAL"),
        ("retention", "3d"),
    ],
)
def test_fields_of_workflows_that_this_build_does_not_run(field: str, value: Any) -> None:
    assert reasons(nodes=[node("a")], **{field: value}) == {field: "NOT_SUPPORTED"}


@pytest.mark.parametrize(
    "node_type",
    ["wait_for_signal", "approval", "subworkflow", "grpc.call", "nats.publish", "nats.request", "sql.query"],
)
def test_types_that_this_build_does_not_run(node_type: str) -> None:
    assert reasons(nodes=[node("a", node_type)]) == {"nodes[0].type": "NOT_SUPPORTED"}


def test_what_is_run_is_not_refused() -> None:
    nodes = [node("a", on_error="CONTINUE", timeouts={"start_to_close": "1s"}), node("b"), node("c")]
    assert (
        reasons(
            nodes=nodes, edges=[edge("a", "b", port="error"), edge("a", "c", port="timeout")], rollback="NONE"
        )
        == {}
    )


def test_an_unbounded_repeat_is_refused() -> None:
    found = reasons(nodes=[node("a", repeat={"until": "true"})])
    assert found["nodes[0].repeat.max_iterations"] == "REQUIRED"


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


def test_what_cannot_be_read_does_not_hide_what_else_is_wrong() -> None:
    found = reasons(
        nodes=[node("a", join="SOME", retry_policy=3), node("b", when="1 +")], edges=[edge("a", "zz")]
    )
    assert found == {
        "nodes[0].join": "UNKNOWN_VALUE",
        "nodes[0].retry_policy": "WRONG_TYPE",
        "nodes[1].when": "INVALID_EXPRESSION",
        "edges[0].target": "UNKNOWN_NODE",
    }


def test_unread_nodes_are_not_blamed_twice() -> None:
    assert reasons(nodes=[3, node("b")], edges=[edge("a", "b")]) == {"nodes[0]": "WRONG_TYPE"}
    assert reasons(nodes=3, edges=[edge("a", "b")]) == {"nodes": "WRONG_TYPE"}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plain_records())
def test_what_has_no_error_compiles(plain: dict[str, Any]) -> None:
    definition, _ = parse_definition(plain)
    assert definition is not None
    found = validate(definition, CEL, schemas=SCHEMAS)
    if not any(problem.severity is Severity.ERROR for problem in found):
        compile_workflow(definition, CEL)
