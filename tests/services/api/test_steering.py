"""Waiting for ends and cancelling: verdicts, repeated request ids, lost hints, deadlines."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
import pytest_asyncio

from services.adapters.nats import topology
from tests.services.api.conftest import Stack, refusal
from weconnect.executions.v1 import enums_pb2 as enums
from weconnect.executions.v1 import execution_service_pb2 as pb


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def slow(stack: Stack) -> str:
    await stack.acme.create(
        name="slow", nodes=[{"id": "a", "type": "delay", "parameters": {"duration": "1h"}}]
    )
    await stack.acme.create(name="fast", nodes=[{"id": "a", "type": "noop"}])
    return "slow"


def _cancel(execution_id: str, **fields: Any) -> pb.CancelExecutionRequest:
    return pb.CancelExecutionRequest(execution_id=execution_id, **fields)


async def test_cancel_ends_it_and_repeats_its_verdict(stack: Stack, slow: str) -> None:
    execution = (await stack.acme.start(slow, wait=0.3)).execution
    wait = asyncio.ensure_future(
        stack.acme.call("WaitExecution", pb.WaitExecutionRequest(execution_id=execution.id))
    )
    answer = await stack.acme.call("CancelExecution", _cancel(execution.id, reason="enough", request_id="c1"))
    assert answer.execution.status == enums.EXECUTION_STATUS_CANCELLED
    assert answer.request_id == "c1"
    assert (await wait).execution.status == enums.EXECUTION_STATUS_CANCELLED
    again = await stack.acme.call("CancelExecution", _cancel(execution.id, reason="enough", request_id="c1"))
    assert again.execution.status == enums.EXECUTION_STATUS_CANCELLED
    other = await stack.acme.call("CancelExecution", _cancel(execution.id))
    assert other.execution.status == enums.EXECUTION_STATUS_CANCELLED, "cancelled already: harmless"
    code, info, _ = await refusal(
        stack.acme.call("CancelExecution", _cancel(execution.id, reason="else", request_id="c1"))
    )
    assert (code, info.reason) == ("ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED")


async def test_what_has_ended_cannot_be_cancelled(stack: Stack, slow: str) -> None:
    execution = (await stack.acme.start("fast", wait=10)).execution
    code, info, details = await refusal(stack.acme.call("CancelExecution", _cancel(execution.id)))
    assert (code, info.reason) == ("FAILED_PRECONDITION", "EXECUTION_ENDED")
    assert info.metadata["status"] == "SUCCESS"
    assert details["PreconditionFailure"].violations[0].type == "EXECUTION_ENDED"


async def test_wait_answers_with_the_state_when_time_is_up(stack: Stack, slow: str) -> None:
    execution = (await stack.acme.start(slow)).execution
    request = pb.WaitExecutionRequest(execution_id=execution.id)
    request.timeout.FromMilliseconds(200)
    answer = await stack.acme.call("WaitExecution", request)
    assert answer.execution.status == enums.EXECUTION_STATUS_RUNNING
    request.timeout.FromSeconds(50)
    answer = await stack.acme.call("WaitExecution", request, timeout=0.8)
    assert answer.execution.status == enums.EXECUTION_STATUS_RUNNING, (
        "answered before the call's own deadline"
    )
    ended = (await stack.acme.start("fast", wait=10)).execution
    answer = await stack.acme.call("WaitExecution", pb.WaitExecutionRequest(execution_id=ended.id))
    assert answer.execution.status == enums.EXECUTION_STATUS_SUCCESS
    assert len(stack.app.ends) == 0


async def test_lost_hints_cost_a_second_not_an_answer(stack: Stack, slow: str) -> None:
    stack.app.hearing.close()
    try:
        execution = (await stack.acme.start("fast", wait=10)).execution
        assert execution.status == enums.EXECUTION_STATUS_SUCCESS
        open_one = (await stack.acme.start(slow, wait=0.2)).execution
        answer = await stack.acme.call("CancelExecution", _cancel(open_one.id))
        assert answer.execution.status == enums.EXECUTION_STATUS_CANCELLED
    finally:
        stack.app.hearing.open()


async def test_a_deadline_leaves_the_command_standing(
    stack: Stack, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = (await stack.acme.start(slow, wait=0.3)).execution
    with monkeypatch.context() as silent:
        # Neither the hint nor the sweep brings the verdict.
        silent.setattr(stack.app.commander, "sweep", _nothing)
        silent.setattr(type(stack.app.commander), "is_waiting", False)
        silent.setattr(stack.app.commander._store, "decided", _no_rows)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stack.acme.call("CancelExecution", _cancel(execution.id, request_id="d1"), timeout=0.6)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    answer = await stack.acme.call("CancelExecution", _cancel(execution.id, request_id="d1"))
    assert answer.execution.status == enums.EXECUTION_STATUS_CANCELLED


async def _nothing() -> dict[str, int]:
    return {}


async def _no_rows(_: Any) -> list[Any]:
    return []


async def test_malformed_messages_are_dropped(stack: Stack, slow: str) -> None:
    for subject in (topology.COMMITS, topology.BEAT):
        stack.app.bus.publish(subject, b"\xff\xff")
    await stack.app.bus.flush()
    execution = (await stack.acme.start("fast", wait=10)).execution
    assert execution.status == enums.EXECUTION_STATUS_SUCCESS
