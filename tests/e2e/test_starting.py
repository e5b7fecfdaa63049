"""Saving and starting: the shape that grpcurl sends, idempotency, waiting, and everything that is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from tests.support.client import CALL_SECONDS, Client, refusal_of, status_of
from tests.support.waiting import until
from weconnect.executions.v1 import execution_service_pb2 as pb
from weconnect.executions.v1 import workflow_service_pb2 as workflows_pb
from weconnect.executions.v1.enums_pb2 import EXECUTION_MODE_API

Plain = dict[str, Any]

# As the examples print it.
HELLO: Plain = {
    "name": "hello-grpcurl",
    "nodes": [
        {"id": "a", "type": "noop"},
        {"id": "b", "type": "log", "parameters": {"message": "hello ${ input.who }"}},
    ],
    "edges": [{"source": "a", "target": "b"}],
    "output": {"who": "${ input.who }"},
}


async def test_requests_and_answers_have_the_documented_json(client: Client) -> None:
    create = ParseDict({"definition": HELLO}, workflows_pb.CreateWorkflowRequest())
    created = MessageToDict(
        await client.workflows.CreateWorkflow(create, metadata=client.metadata, timeout=CALL_SECONDS)
    )
    assert (created["workflow"]["name"], created["workflow"]["version"]) == ("hello-grpcurl", 1)
    start = ParseDict(
        {
            "workflowName": "hello-grpcurl", "input": {"who": "you"}, "mode": "EXECUTION_MODE_API", "wait": "10s",
        },
        pb.StartExecutionRequest(),
    )  # fmt: skip
    started = MessageToDict(
        await client.executions.StartExecution(start, metadata=client.metadata, timeout=CALL_SECONDS)
    )
    execution = started["execution"]
    assert execution["status"] == "EXECUTION_STATUS_SUCCESS"
    assert (execution["input"], execution["output"]) == ({"who": "you"}, {"who": "you"})
    assert execution["mode"] == "EXECUTION_MODE_API"
    assert execution["workflowId"] == created["workflow"]["id"]
    watch = ParseDict({"executionId": execution["id"]}, pb.WatchExecutionRequest())
    call = client.executions.WatchExecution(watch, metadata=client.metadata, timeout=CALL_SECONDS)
    messages = [MessageToDict(message) async for message in call]
    assert messages[-1]["final"] is True
    assert messages[-1]["execution"] == execution


async def test_an_enum_may_be_written_in_any_of_its_forms(client: Client) -> None:
    definition = {
        "name": "prefixed",
        "strategy": "STRATEGY_SEQUENTIAL",
        "timeout": "120s",
        "nodes": [{"id": "a", "type": "noop", "join": "JOIN_ALL_TAKEN", "onError": "ON_ERROR_CONTINUE"}],
    }
    request = ParseDict({"definition": definition}, workflows_pb.CreateWorkflowRequest())
    by_message = await client.workflows.CreateWorkflow(
        request, metadata=client.metadata, timeout=CALL_SECONDS
    )
    plain = {
        "name": "prefixed", "strategy": "sequential", "timeout": "2m",
        "nodes": [{"id": "a", "type": "noop", "join": "ALL_TAKEN", "on_error": "CONTINUE"}],
    }  # fmt: skip
    checked = await client.validate(plain)
    assert checked.valid
    assert checked.content_hash == by_message.workflow.content_hash


async def test_the_same_key_starts_once(client: Client) -> None:
    await client.create({**HELLO, "name": "once"})
    key = "key-1"
    starts = [client.start("once", {"who": "a"}, idempotency_key=key) for _ in range(10)]
    ids = {execution.id for execution in await asyncio.gather(*starts)}
    assert len(ids) == 1
    request = pb.StartExecutionRequest(
        workflow_name="once", input_json=b'{ "who" : "a" }', idempotency_key=key, mode=EXECUTION_MODE_API
    )
    again = await client.executions.StartExecution(request, metadata=client.metadata, timeout=CALL_SECONDS)
    assert again.existing
    assert {again.execution.id} == ids
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.start("once", {"who": "b"}, idempotency_key=key)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    info, _ = refusal_of(caught.value)
    assert (info.reason, {info.metadata["executionId"]}) == ("IDEMPOTENCY_KEY_REUSED", ids)
    by_key = pb.GetExecutionRequest(idempotency_key=key)
    found = await client.executions.GetExecution(by_key, metadata=client.metadata, timeout=CALL_SECONDS)
    assert {found.execution.id} == ids


async def test_wait_answers_with_the_state_when_time_is_up(client: Client) -> None:
    nodes = [{"id": "a", "type": "delay", "parameters": {"duration": "3s"}}]
    await client.create({"name": "slow-wait", "nodes": nodes})
    execution = await client.start("slow-wait", {}, wait_s=1)
    assert status_of(execution) == "RUNNING"
    request = pb.WaitExecutionRequest(execution_id=execution.id)
    request.timeout.FromMilliseconds(50)
    answer = await client.executions.WaitExecution(request, metadata=client.metadata, timeout=CALL_SECONDS)
    assert status_of(answer.execution) == "RUNNING"
    assert status_of(await client.ended(execution)) == "SUCCESS"


async def test_a_bad_definition_is_told_everything_at_once(client: Client) -> None:
    bad = {
        "name": "bad",
        "nodes": [
            {"id": "a", "type": "condition", "parameters": {"condition": "input.x >"}},
            {"id": "a", "type": "noop"},
            {"id": "c", "type": "switch", "parameters": {}},
            {"id": "d", "type": "noop", "for_each": {"items": "input.list"}},
        ],
        "edges": [{"source": "a", "target": "nowhere"}, {"source": "c", "target": "d", "port": "what"}],
        "nonsense": 1,
    }
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create(bad)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    _, fields = refusal_of(caught.value)
    problems = {problem.field for problem in (await client.validate(bad)).problems}
    assert set(fields) == problems
    assert {"nonsense", "nodes[1].id", "edges[0].target", "nodes[3].for_each"} <= problems
    assert any(path.startswith("nodes[0].parameters.condition") for path in problems)
    assert any(path.startswith("nodes[2].parameters") for path in problems)


async def test_input_is_held_against_the_schema_before_anything_is_written(client: Client) -> None:
    schema = {
        "type": "object",
        "required": ["n"],
        "properties": {"n": {"type": "integer"}, "s": {"type": "string"}},
    }
    await client.create({"name": "strict", "input_schema": schema, "nodes": [{"id": "a", "type": "noop"}]})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.start("strict", {"n": "one", "s": 2}, idempotency_key="strict-1")
    info, fields = refusal_of(caught.value)
    assert (info.reason, set(fields)) == ("INVALID_INPUT", {"input.n", "input.s"})
    assert (
        status_of(await client.ended(await client.start("strict", {"n": 1}, idempotency_key="strict-1")))
        == "SUCCESS"
    )


async def test_what_is_not_there_is_not_found(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.start("no-such-workflow", {})
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.get("00000000-0000-7000-8000-000000000000")
    assert refusal_of(caught.value)[0].reason == "EXECUTION_NOT_FOUND"


async def test_too_big_a_value_is_refused(client: Client) -> None:
    await client.create({**HELLO, "name": "big"})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.start("big", {"who": "x" * (256 * 1024 + 1)})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    nodes = [
        {
            "id": "a",
            "type": "test.huge",
            "parameters": {"bytes": 300_000},
            "retry_policy": {"max_attempts": 1},
        }
    ]
    ended = await client.run({"name": "huge", "nodes": nodes}, {})
    assert status_of(ended) == "FAILED"
    assert (await client.node_runs(ended.id))["a"].error.type == "RESOURCE"


async def test_a_new_version_leaves_open_executions_alone(client: Client) -> None:
    nap = {"id": "a", "type": "delay", "parameters": {"duration": "1s"}}
    await client.create({"name": "versions", "nodes": [nap], "output": {"version": 1}})
    old = await client.start("versions", {})
    update = workflows_pb.UpdateWorkflowRequest(workflow_name="versions", expected_version=1)
    update.definition_json = (
        b'{"name": "versions", "nodes": [{"id": "a", "type": "noop"}], "output": {"version": 2}}'
    )
    updated = await client.workflows.UpdateWorkflow(update, metadata=client.metadata, timeout=CALL_SECONDS)
    assert updated.workflow.version == 2
    new = await until(lambda: client.start("versions", {}), "it starts")
    ended = [await client.ended(execution) for execution in (old, new)]
    assert [(one.workflow_version, MessageToDict(one.output)) for one in ended] == [
        (1, {"version": 1.0}),
        (2, {"version": 2.0}),
    ]
