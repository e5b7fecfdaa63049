"""What saving a version refuses, and where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from services.core.definition.parse import parse_definition
from services.core.errors import Severity
from services.core.graph import compile_workflow
from services.core.validation import validate
from tests.support.definitions import plain_records
from tests.support.reviews import CEL, SCHEMAS, edge, node, problems, reasons

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
