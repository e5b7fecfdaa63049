"""Starting executions over the wire: accepted, waited for, refused, idempotent."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from tests.services.api.conftest import Stack, refusal
from weconnect.executions.v1 import enums_pb2 as enums
from weconnect.executions.v1 import execution_service_pb2 as executions

HELLO = {
    "name": "hello",
    "nodes": [
        {"id": "a", "type": "noop"},
        {"id": "b", "type": "set", "parameters": {"vars": {"greeting": "hi ${ input.who }"}}},
    ],
    "edges": [{"source": "a", "target": "b"}],
    "vars": {"greeting": "none"},
    "output": {"who": "${ input.who }"},
    "input_schema": {"type": "object", "required": ["who"], "properties": {"who": {"type": "string"}}},
}
SLOW = {"name": "slow", "nodes": [{"id": "a", "type": "delay", "parameters": {"duration": "1h"}}]}
BROKEN = {
    "name": "broken",
    "nodes": [{"id": "a", "type": "fail", "parameters": {"type": "NO", "message": "never"}}],
}


@pytest.fixture
async def hello(stack: Stack) -> str:
    await stack.acme.create(**HELLO)
    return "hello"


async def test_a_start_is_answered_with_its_end(stack: Stack, hello: str) -> None:
    answer = await stack.acme.start(hello, input={"who": "you"}, wait=10, labels={"team": "a"})
    execution = answer.execution
    assert execution.status == enums.EXECUTION_STATUS_SUCCESS
    assert orjson.loads(execution.output_json) == {"who": "you"}
    assert orjson.loads(execution.context_json) == {"greeting": "hi you"}
    assert (execution.organization_id, execution.user_id) == ("acme", "ann")
    assert (execution.workflow_name, execution.workflow_version) == ("hello", 1)
    assert execution.nodes_executed == 2
    assert execution.metrics.successful_nodes == 2
    assert execution.HasField("duration_ms")
    assert dict(execution.labels) == {"team": "a"}
    assert not answer.existing


async def test_a_start_without_wait_is_pending(stack: Stack) -> None:
    await stack.acme.create(**SLOW)
    execution = (await stack.acme.start("slow")).execution
    assert execution.status == enums.EXECUTION_STATUS_PENDING
    assert execution.id == execution.root_execution_id
    waited = (await stack.acme.start("slow", wait=0.3)).execution
    assert waited.status == enums.EXECUTION_STATUS_RUNNING


async def test_struct_input_keeps_whole_numbers_whole(stack: Stack) -> None:
    await stack.acme.create(name="echo", nodes=[{"id": "a", "type": "noop"}], output={"got": "${ input }"})
    request = executions.StartExecutionRequest(workflow_name="echo")
    request.input.update({"n": 3, "half": 0.5, "list": [1, None, True], "deep": {"x": "y"}})
    request.wait.FromSeconds(10)
    execution = (await stack.acme.call("StartExecution", request)).execution
    assert execution.output["got"]["n"] == 3
    request.exact_json = True
    execution = (await stack.acme.call("StartExecution", request)).execution
    assert orjson.loads(execution.output_json) == {
        "got": {"n": 3, "half": 0.5, "list": [1, None, True], "deep": {"x": "y"}}
    }


async def test_failure_is_an_answer_not_an_error(stack: Stack) -> None:
    await stack.acme.create(**BROKEN)
    execution = (await stack.acme.start("broken", wait=10)).execution
    assert execution.status == enums.EXECUTION_STATUS_FAILED
    info = error_details_pb2.ErrorInfo.FromString(execution.error.details[0].value)
    assert (info.reason, info.domain) == ("NO", "executions.weconnect")
    assert info.metadata["failedNodeId"] == "a"
    assert info.metadata["executionId"] == execution.id
    assert execution.nodes_failed == 1


async def test_all_that_is_wrong_is_said_at_once(stack: Stack) -> None:
    code, info, details = await refusal(
        stack.acme.start(
            "",
            input={},
            mode=99,
            priority=77,
            idempotency_key="k" * 129,
            wait=61,
            timeout=0.1,
            labels={"": "x"},
        )
    )
    fields = {violation.field for violation in details["BadRequest"].field_violations}
    assert (code, info.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert {"workflow_name", "mode", "priority", "idempotency_key", "wait", "timeout", "labels"} <= fields


async def test_input_is_held_against_its_schema(stack: Stack, hello: str) -> None:
    code, info, details = await refusal(stack.acme.start(hello, input={"who": 3}))
    assert (code, info.reason) == ("INVALID_ARGUMENT", "INVALID_INPUT")
    assert details["BadRequest"].field_violations[0].field == "input.who"
    assert info.metadata["workflowName"] == "hello"
    code, info, _ = await refusal(stack.acme.start(hello, input=[1]))
    assert (code, info.reason) == ("INVALID_ARGUMENT", "INVALID_INPUT")


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"[" * 70 + b"]" * 70, b'{"a": "\\u0000"}', b"NaN"])
async def test_json_that_is_none_is_refused(stack: Stack, hello: str, raw: bytes) -> None:
    request = executions.StartExecutionRequest(workflow_name=hello, input_json=raw)
    code, _, details = await refusal(stack.acme.call("StartExecution", request))
    assert code == "INVALID_ARGUMENT"
    assert details["BadRequest"].field_violations[0].field == "input_json"


async def test_large_values_are_refused_naming_the_limit(stack: Stack, hello: str) -> None:
    code, info, _ = await refusal(stack.acme.start(hello, input={"who": "x" * 300_000}))
    assert (code, info.reason) == ("INVALID_ARGUMENT", "RESOURCE")
    assert info.metadata["limit"] == "value_inline_bytes_max"
    assert info.metadata["max"] == "262144"


async def test_unknown_workflows_versions_and_aliases(stack: Stack, hello: str) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"workflow_name": "nothing"}, "WORKFLOW_NOT_FOUND"),
        ({"workflow_name": hello, "version": 9}, "VERSION_NOT_FOUND"),
        ({"workflow_name": hello, "alias": "stable"}, "ALIAS_NOT_FOUND"),
    ]
    for fields, reason in cases:
        request = executions.StartExecutionRequest(input_json=b'{"who": "x"}', **fields)
        code, info, _ = await refusal(stack.acme.call("StartExecution", request))
        assert (code, info.reason) == ("NOT_FOUND", reason)
    code, info, _ = await refusal(stack.other.start(hello, input={"who": "x"}))
    assert (code, info.reason) == ("NOT_FOUND", "WORKFLOW_NOT_FOUND")


async def test_an_idempotency_key_starts_one_execution(stack: Stack, hello: str) -> None:
    first = await stack.acme.start(hello, input={"who": "x"}, idempotency_key="k1", wait=10)
    again = await stack.acme.start(hello, input={"who": "x"}, idempotency_key="k1", wait=10)
    assert again.existing
    assert again.execution.id == first.execution.id
    assert again.execution.status == enums.EXECUTION_STATUS_SUCCESS
    code, info, _ = await refusal(stack.acme.start(hello, input={"who": "y"}, idempotency_key="k1"))
    assert (code, info.reason) == ("ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED")
    assert info.metadata["executionId"] == first.execution.id
    code, info, _ = await refusal(
        stack.acme.start(
            hello,
            input={"who": "x"},
            idempotency_key="k1",
            idempotency_policy=enums.IDEMPOTENCY_POLICY_REJECT,
        )
    )
    assert (code, info.reason) == ("ALREADY_EXISTS", "EXECUTION_EXISTS")
    await stack.other.create(**HELLO)
    foreign = await stack.other.start(hello, input={"who": "z"}, idempotency_key="k1")
    assert not foreign.existing


async def test_restart_after_failure_starts_anew_only_then(stack: Stack, hello: str) -> None:
    await stack.acme.create(**BROKEN)
    policy = enums.IDEMPOTENCY_POLICY_RESTART_AFTER_FAILURE
    first = await stack.acme.start("broken", idempotency_key="r1", idempotency_policy=policy, wait=10)
    second = await stack.acme.start("broken", idempotency_key="r1", idempotency_policy=policy, wait=10)
    assert not second.existing
    assert second.execution.id != first.execution.id
    good = await stack.acme.start(
        hello, input={"who": "x"}, idempotency_key="r2", idempotency_policy=policy, wait=10
    )
    same = await stack.acme.start(
        hello, input={"who": "x"}, idempotency_key="r2", idempotency_policy=policy, wait=10
    )
    assert same.existing
    assert same.execution.id == good.execution.id


async def test_timeouts_have_their_bounds(stack: Stack, hello: str) -> None:
    code, _, details = await refusal(stack.acme.start(hello, input={"who": "x"}, timeout=7200))
    assert code == "INVALID_ARGUMENT"
    assert details["BadRequest"].field_violations[0].field == "timeout"
    await stack.acme.create(**{**SLOW, "name": "day", "timeout": "1d"})
    execution = (await stack.acme.start("day", timeout=7200)).execution
    assert execution.timeout.seconds == 7200


async def test_test_mode_reaches_nothing_outside(stack: Stack) -> None:
    await stack.acme.create(
        name="outside",
        nodes=[{"id": "call", "type": "http.request", "parameters": {"method": "GET", "url": "http://x/"}}],
    )
    code, info, _ = await refusal(stack.acme.start("outside", mode=enums.EXECUTION_MODE_TEST))
    assert (code, info.reason) == ("FAILED_PRECONDITION", "OUTPUT_NOT_PINNED")
    assert info.metadata["nodeId"] == "call"


async def test_many_starts_share_their_inserts(stack: Stack, hello: str) -> None:
    before = stack.app.starter.writer.batches
    answers = await asyncio.gather(
        *(stack.acme.start(hello, input={"who": str(n)}, wait=20) for n in range(200))
    )
    assert [orjson.loads(a.execution.output_json)["who"] for a in answers] == [str(n) for n in range(200)]
    assert stack.app.starter.writer.batches - before < 150
