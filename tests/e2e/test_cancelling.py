"""Cancelling: the grace, force, and the verdicts that clients get."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from tests.support.client import Client, node_statuses, refusal_of, status_of
from tests.support.waiting import until
from weconnect.executions.v1.enums_pb2 import NODE_STATUS_RUNNING, STATUS_REASON_CANCELLING

Plain = dict[str, Any]


async def _running(client: Client, name: str, kind: str, parameters: Plain, node: str = "a") -> str:
    nodes = [{"id": node, "type": kind, "parameters": parameters}, {"id": "next", "type": "noop"}]
    await client.create({"name": name, "nodes": nodes, "edges": [{"source": node, "target": "next"}]})
    execution = await client.start(name, {})

    async def running() -> bool:
        answer = await client.get(execution.id)
        return any(run.status == NODE_STATUS_RUNNING for run in answer.progress.open_nodes)

    await until(running, "its node runs")
    return execution.id


async def test_a_running_task_is_told_and_ends_in_its_grace(client: Client) -> None:
    execution_id = await _running(client, "kind-cancel", "test.busy", {"seconds": 60})
    answer = await client.cancel(execution_id, reason="changed my mind", request_id="kind-1")
    assert answer.request_id == "kind-1"
    assert (
        status_of(answer.execution) == "CANCELLED"
        or answer.execution.status_reason == STATUS_REASON_CANCELLING
    )
    ended = await client.ended(execution_id)
    assert status_of(ended) == "CANCELLED"
    assert ended.duration_ms < 9_000
    assert "changed my mind" in ended.error.message
    assert await node_statuses(client, execution_id) == {"a": "CANCELLED", "next": "SKIPPED"}
    repeated = await client.cancel(execution_id, reason="changed my mind", request_id="kind-1")
    assert status_of(repeated.execution) == "CANCELLED"
    again = await client.cancel(execution_id)
    assert status_of(again.execution) == "CANCELLED"


async def test_a_deaf_task_is_abandoned_after_its_grace(client: Client) -> None:
    execution_id = await _running(client, "deaf-cancel", "test.deaf", {"seconds": 16})
    await client.cancel(execution_id)
    ended = await client.ended(execution_id)
    assert status_of(ended) == "CANCELLED"
    events = await client.history(execution_id)
    (asked,) = [event for event in events if event.HasField("cancel_requested")]
    assert ended.completed_at.ToMilliseconds() - asked.at.ToMilliseconds() >= 9_900


async def test_force_gives_no_grace(client: Client) -> None:
    execution_id = await _running(client, "forced", "test.deaf", {"seconds": 3})
    answer = await client.cancel(execution_id, force=True)
    assert status_of(answer.execution) == "CANCELLED"


async def test_what_has_ended_cannot_be_cancelled(client: Client) -> None:
    ended = await client.run({"name": "over", "nodes": [{"id": "a", "type": "noop"}]}, {})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.cancel(ended.id, request_id="too-late")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal_of(caught.value)[0].reason == "EXECUTION_ENDED"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.cancel(ended.id, request_id="too-late")
    assert refusal_of(caught.value)[0].reason == "EXECUTION_ENDED"


async def test_a_request_id_means_one_command(client: Client) -> None:
    first = await client.run({"name": "command-a", "nodes": [{"id": "a", "type": "noop"}]}, {})
    nap = {"id": "a", "type": "delay", "parameters": {"duration": "30s"}}
    await client.create({"name": "command-b", "nodes": [nap]})
    second = await client.start("command-b", {})
    await client.cancel(second.id, request_id="mine")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.cancel(first.id, request_id="mine")
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert refusal_of(caught.value)[0].reason == "IDEMPOTENCY_KEY_REUSED"
