"""Definitions over protobuf: what goes out comes back equal."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings

from services.adapters.wire.definitions import definition_from_proto, definition_to_proto
from services.core.definition.fields import fields_of
from services.core.definition.model import Definition, Edge, Node
from services.core.definition.parse import parse_definition
from tests.support.definitions import plain_records
from weconnect.executions.v1 import definition_pb2
from weconnect.executions.v1.definition_pb2 import WorkflowDefinition


def parsed(plain: Any) -> Definition:
    definition, problems = parse_definition(plain)
    assert definition is not None, problems
    return definition


def back(message: WorkflowDefinition) -> Definition:
    plain, problems = definition_from_proto(message)
    assert problems == []
    return parsed(plain)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plain_records())
def test_round_trip(plain: dict[str, Any]) -> None:
    definition = parsed(plain)
    for exact in (False, True):
        message = definition_to_proto(definition, exact=exact)
        assert back(WorkflowDefinition.FromString(message.SerializeToString())) == definition


def test_the_json_of_protobuf() -> None:
    message = json_format.Parse(
        """{"name": "hello", "timeout": "1.5s", "inputSchemaJson": "eyJ0eXBlIjoib2JqZWN0In0=",
            "nodes": [{"id": "a", "type": "log", "parameters": {"message": "hi", "n": 2.0, "d": 0.5},
                       "onError": "ON_ERROR_CONTINUE", "retryPolicy": {"maxAttempts": 0, "jitter": 0}}],
            "output": {"who": "${ input.who }"}}""",
        WorkflowDefinition(),
    )
    plain, problems = definition_from_proto(message)
    assert problems == []
    assert plain == {
        "name": "hello",
        "timeout": "1.500000000s",
        "input_schema": {"type": "object"},
        "nodes": [
            {
                "id": "a",
                "type": "log",
                "parameters": {"message": "hi", "n": 2, "d": 0.5},
                "on_error": "ON_ERROR_CONTINUE",
                "retry_policy": {"max_attempts": 0, "jitter": 0.0},
            }
        ],
        "output": {"who": "${ input.who }"},
    }
    assert type(plain["nodes"][0]["parameters"]["n"]) is int


@pytest.mark.parametrize("output", [1.0, 2**60, [1], "x", True, {"a": 1.0}, {}, {"a": [2**53 + 1]}])
def test_what_a_struct_cannot_hold_goes_as_bytes(output: Any) -> None:
    definition = Definition("w", (Node("a", "x", parameters={"p": output}),), output=output)
    assert back(definition_to_proto(definition)) == definition


def test_deep_values_go_as_bytes() -> None:
    deep: Any = {}
    for _ in range(50):
        deep = {"a": deep}
    definition = Definition("w", (Node("a", "x"),), output=deep)
    message = definition_to_proto(definition)
    assert back(WorkflowDefinition.FromString(message.SerializeToString())) == definition


def test_what_cannot_be_read_is_told_by_path() -> None:
    message = WorkflowDefinition(name="w")
    message.nodes.add(id="a", type="x", parameters_json=b"{")
    message.nodes.add(id="b", type="x").parameters["x"] = float("nan")
    message.timeout.seconds = -5
    message.nodes[0].join = 99  # type: ignore[assignment]
    message.nodes[1].MergeFromString(b"\xf8\x3f\x01")
    plain, problems = definition_from_proto(message)
    assert {problem.path: problem.reason for problem in problems} == {
        "nodes[0].parameters_json": "INVALID_VALUE",
        "nodes[1]": "UNKNOWN_FIELD",
        "nodes[1].parameters": "INVALID_VALUE",
    }
    _, refused = parse_definition(plain)
    assert {problem.path: problem.reason for problem in refused} == {
        "timeout": "INVALID_DURATION",
        "nodes[0].join": "UNKNOWN_VALUE",
    }


def test_the_contract_and_the_model_have_the_same_fields() -> None:
    for record, message in ((Definition, "WorkflowDefinition"), (Node, "Node"), (Edge, "Edge")):
        descriptor = definition_pb2.DESCRIPTOR.message_types_by_name[message]
        assert {field.name.removesuffix("_json") for field in descriptor.fields} == {
            field.plain for field in fields_of(record)
        }
