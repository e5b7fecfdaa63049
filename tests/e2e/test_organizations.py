"""Two organizations see nothing of each other, on every call of the api; nor does who has no token see anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.support.client import CALL_SECONDS, Client, refusal_of, status_of
from tests.support.stack import StackUnderTest
from weconnect.executions.v1 import api_service_pb2
from weconnect.executions.v1 import execution_service_pb2 as pb
from weconnect.executions.v1 import workflow_service_pb2 as workflows_pb
from weconnect.executions.v1.api_service_pb2_grpc import ApiServiceStub

DEFINITION = {"name": "private", "nodes": [{"id": "a", "type": "log", "parameters": {"message": "secret"}}]}

# Call -> request for the execution `e` or the workflow `w` of another organization.
BY_ID: dict[str, Callable[[str, str], Any]] = {
    "StartExecution": lambda e, w: pb.StartExecutionRequest(workflow_id=w),
    "GetExecution": lambda e, w: pb.GetExecutionRequest(execution_id=e),
    "WaitExecution": lambda e, w: pb.WaitExecutionRequest(execution_id=e),
    "CancelExecution": lambda e, w: pb.CancelExecutionRequest(execution_id=e),
    "ListNodeRuns": lambda e, w: pb.ListNodeRunsRequest(execution_id=e),
    "GetExecutionHistory": lambda e, w: pb.GetExecutionHistoryRequest(execution_id=e),
    "ListExecutionLogs": lambda e, w: pb.ListExecutionLogsRequest(execution_id=e),
    "WatchExecution": lambda e, w: pb.WatchExecutionRequest(execution_id=e),
    "GetWorkflow": lambda e, w: workflows_pb.GetWorkflowRequest(workflow_id=w),
    "UpdateWorkflow": lambda e, w: workflows_pb.UpdateWorkflowRequest(
        workflow_id=w, definition_json=b'{"name": "private", "nodes": [{"id": "a", "type": "noop"}]}'
    ),
}


@pytest.fixture
def mine(stack: StackUnderTest) -> Client:
    """A user of one organization."""
    return Client(stack, organization="org-one")


@pytest.fixture
def theirs(stack: StackUnderTest) -> Client:
    """A user of another."""
    return Client(stack, organization="org-two")


async def _call(client: Client, name: str, request: Any, metadata: Any) -> Any:
    stub: Any = client.workflows if "Workflow" in name else client.executions
    call = getattr(stub, name)(request, metadata=metadata, timeout=CALL_SECONDS)
    if name == "WatchExecution":
        return [message async for message in call]
    return await call


async def test_nobody_sees_what_belongs_to_another(mine: Client, theirs: Client) -> None:
    workflow = await mine.create(DEFINITION)
    ended = await mine.ended(await mine.start("private", {}, idempotency_key="same-key"))
    assert status_of(ended) == "SUCCESS"
    for name, request in BY_ID.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(theirs, name, request(ended.id, workflow.id), theirs.metadata)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND, name
    assert not (await theirs.executions.ListExecutions(
        pb.ListExecutionsRequest(), metadata=theirs.metadata, timeout=CALL_SECONDS
    )).executions  # fmt: skip
    assert not (await theirs.workflows.ListWorkflows(
        workflows_pb.ListWorkflowsRequest(), metadata=theirs.metadata, timeout=CALL_SECONDS
    )).workflows  # fmt: skip

    # Names and keys are each organization's own.
    other = await theirs.create(DEFINITION)
    assert (other.version, other.id != workflow.id) == (1, True)
    execution = await theirs.ended(await theirs.start("private", {}, idempotency_key="same-key"))
    assert execution.id != ended.id
    assert (execution.organization_id, ended.organization_id) == ("org-two", "org-one")


@pytest.mark.parametrize("token", [None, "Bearer nonsense", "Basic abc"])
async def test_nothing_without_a_token(mine: Client, stack: StackUnderTest, token: str | None) -> None:
    metadata = () if token is None else (("authorization", token),)
    calls = {name: request("00000000-0000-7000-8000-000000000000", "0") for name, request in BY_ID.items()}
    calls |= {
        "ListExecutions": pb.ListExecutionsRequest(),
        "ListWorkflows": workflows_pb.ListWorkflowsRequest(),
        "CreateWorkflow": workflows_pb.CreateWorkflowRequest(),
        "ValidateWorkflow": workflows_pb.ValidateWorkflowRequest(),
    }
    for name, request in calls.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(mine, name, request, metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, name
        assert refusal_of(caught.value)[0].domain == "executions.weconnect"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ApiServiceStub(stack.channel()).GetApiStatus(
            api_service_pb2.GetApiStatusRequest(), metadata=metadata, timeout=CALL_SECONDS
        )
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
