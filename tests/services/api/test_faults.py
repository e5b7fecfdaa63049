"""Api while its database or its bus is away: refusals that say when to come back, nothing lost, everything resumes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from services.local.nats import EmbeddedNats
from services.local.postgres import EmbeddedPostgres
from tests.services.api.conftest import Stack, refusal
from weconnect.executions.v1 import enums_pb2 as enums
from weconnect.executions.v1 import execution_service_pb2 as pb


async def _start_until_answered(stack: Stack, key: str) -> Any:
    """Start with the same key until it is answered, as clients do."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await stack.acme.start("fast", idempotency_key=key, wait=10)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise


async def test_a_database_that_dies_and_comes_back(stack: Stack, postgres: EmbeddedPostgres) -> None:
    await stack.acme.create(name="fast", nodes=[{"id": "a", "type": "noop"}])
    before = (await stack.acme.start("fast", idempotency_key="before", wait=10)).execution
    await postgres.kill()
    code, info, details = await refusal(stack.acme.start("fast", idempotency_key="during"))
    assert (code, info.reason) == ("UNAVAILABLE", "UNAVAILABLE")
    assert "RetryInfo" in details
    code, info, _ = await refusal(
        stack.acme.call("GetExecution", pb.GetExecutionRequest(execution_id=before.id))
    )
    assert code == "UNAVAILABLE"
    await postgres.start()
    answer = await _start_until_answered(stack, "during")
    async with asyncio.timeout(60):
        while answer.execution.status != enums.EXECUTION_STATUS_SUCCESS:
            answer = await stack.acme.call(
                "WaitExecution", pb.WaitExecutionRequest(execution_id=answer.execution.id)
            )
    again = await stack.acme.start("fast", idempotency_key="before", wait=10)
    assert again.existing
    assert again.execution.id == before.id


async def test_a_bus_that_dies_and_comes_back(stack: Stack, nats_server: EmbeddedNats) -> None:
    await stack.acme.create(name="fast", nodes=[{"id": "a", "type": "noop"}])
    await nats_server.kill()
    answer = await stack.acme.start("fast", idempotency_key="no bus")
    assert not answer.existing, "accepted: the bus carries hints alone"
    await nats_server.start()
    async with asyncio.timeout(60):
        while answer.execution.status != enums.EXECUTION_STATUS_SUCCESS:
            answer = await stack.acme.call(
                "WaitExecution", pb.WaitExecutionRequest(execution_id=answer.execution.id)
            )
