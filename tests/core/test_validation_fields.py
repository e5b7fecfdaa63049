"""What is refused of parameters, policies and timeouts."""

from __future__ import annotations

from typing import Any

import pytest

from services.core.errors import Severity
from tests.support.reviews import edge, node, problems, reasons


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
