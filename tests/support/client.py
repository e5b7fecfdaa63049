"""The public API as tests call it: JSON in and out, one organization and user a client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from services.adapters.grpc.errors import DETAILS_KEY
from services.local.access import ORGANIZATION
from tests.support.stack import StackUnderTest
from weconnect.executions.v1 import execution_pb2, execution_service_pb2, history_pb2, workflow_service_pb2
from weconnect.executions.v1.enums_pb2 import EXECUTION_MODE_API, VIEW_FULL, ExecutionStatus, NodeStatus
from weconnect.executions.v1.execution_service_pb2_grpc import ExecutionServiceStub
from weconnect.executions.v1.workflow_service_pb2_grpc import WorkflowServiceStub

if TYPE_CHECKING:  # exist for the type checker alone
    from weconnect.executions.v1.execution_service_pb2_grpc import ExecutionServiceAsyncStub
    from weconnect.executions.v1.workflow_service_pb2_grpc import WorkflowServiceAsyncStub

CALL_SECONDS = 20.0
RUN_SECONDS = 60


class Client:
    """Calls one api process as one user."""

    def __init__(
        self,
        stack: StackUnderTest,
        organization: str = ORGANIZATION,
        user: str = "tester",
        service: str = "api-1",
    ) -> None:
        channel = stack.channel(service)
        self.metadata = stack.metadata(organization, user)
        self.workflows: WorkflowServiceAsyncStub = WorkflowServiceStub(channel)
        self.executions: ExecutionServiceAsyncStub = ExecutionServiceStub(channel)

    async def create(self, definition: Mapping[str, Any]) -> workflow_service_pb2.Workflow:
        """Save a definition as a new workflow."""
        request = workflow_service_pb2.CreateWorkflowRequest(definition_json=json.dumps(definition).encode())
        answer = await self.workflows.CreateWorkflow(request, metadata=self.metadata, timeout=CALL_SECONDS)
        return answer.workflow

    async def validate(self, definition: Mapping[str, Any]) -> workflow_service_pb2.ValidateWorkflowResponse:
        """All problems of a definition."""
        request = workflow_service_pb2.ValidateWorkflowRequest(
            definition_json=json.dumps(definition).encode()
        )
        return await self.workflows.ValidateWorkflow(request, metadata=self.metadata, timeout=CALL_SECONDS)

    async def start(
        self, workflow: str, input: Any = None, wait_s: int = 0, **fields: Any
    ) -> execution_pb2.Execution:
        """Start the latest version of a workflow by name; `fields` go into the request as they are."""
        request = execution_service_pb2.StartExecutionRequest(
            workflow_name=workflow, mode=EXECUTION_MODE_API, **fields
        )
        if input is not None:
            request.input_json = json.dumps(input).encode()
        if wait_s:
            request.wait.FromSeconds(wait_s)
        answer = await self.executions.StartExecution(
            request, metadata=self.metadata, timeout=CALL_SECONDS + wait_s
        )
        return answer.execution

    async def run(self, definition: Mapping[str, Any], input: Any = None) -> execution_pb2.Execution:
        """Save a definition, start it, and return the execution as it ended."""
        await self.create(definition)
        return await self.ended(await self.start(str(definition["name"]), input))

    async def ended(self, execution: execution_pb2.Execution | str) -> execution_pb2.Execution:
        """An execution once it has ended, within a minute."""
        execution_id = execution if isinstance(execution, str) else execution.id
        request = execution_service_pb2.WaitExecutionRequest(execution_id=execution_id)
        request.timeout.FromSeconds(RUN_SECONDS)
        answer = await self.executions.WaitExecution(
            request, metadata=self.metadata, timeout=RUN_SECONDS + CALL_SECONDS
        )
        assert answer.execution.HasField("completed_at"), f"{execution_id} has not ended: {answer.execution}"
        return answer.execution

    async def get(self, execution_id: str) -> execution_service_pb2.GetExecutionResponse:
        """An execution as it stands."""
        request = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)
        return await self.executions.GetExecution(request, metadata=self.metadata, timeout=CALL_SECONDS)

    async def cancel(self, execution_id: str, **fields: Any) -> execution_service_pb2.CancelExecutionResponse:
        """Ask for its end."""
        request = execution_service_pb2.CancelExecutionRequest(execution_id=execution_id, **fields)
        return await self.executions.CancelExecution(request, metadata=self.metadata, timeout=CALL_SECONDS)

    async def history(self, execution_id: str, page_size: int = 1000) -> list[history_pb2.HistoryEvent]:
        """All events, page by page."""
        events: list[history_pb2.HistoryEvent] = []
        request = execution_service_pb2.GetExecutionHistoryRequest(
            execution_id=execution_id, page_size=page_size
        )
        while True:
            page = await self.executions.GetExecutionHistory(
                request, metadata=self.metadata, timeout=CALL_SECONDS
            )
            events += page.events
            request.page_token = page.next_page_token
            if not request.page_token:
                return events

    async def node_runs(self, execution_id: str) -> dict[str, execution_pb2.NodeRun]:
        """All node runs with their payloads, by node id."""
        runs: dict[str, execution_pb2.NodeRun] = {}
        request = execution_service_pb2.ListNodeRunsRequest(
            execution_id=execution_id, page_size=100, view=VIEW_FULL
        )
        while True:
            page = await self.executions.ListNodeRuns(request, metadata=self.metadata, timeout=CALL_SECONDS)
            runs |= {run.node_id: run for run in page.node_runs}
            request.page_token = page.next_page_token
            if not request.page_token:
                return runs

    async def watch(
        self, execution_id: str, timeout_s: float = RUN_SECONDS, **fields: Any
    ) -> AsyncIterator[execution_service_pb2.WatchExecutionResponse]:
        """Messages of a watch until it is final."""
        request = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id, **fields)
        call = self.executions.WatchExecution(request, metadata=self.metadata, timeout=timeout_s)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()


def status_of(execution: execution_pb2.Execution) -> str:
    """`SUCCESS`, `FAILED` …"""
    return ExecutionStatus.Name(execution.status).removeprefix("EXECUTION_STATUS_")


async def node_statuses(client: Client, execution_id: str) -> dict[str, str]:
    """`SUCCESS`, `SKIPPED` … by node id."""
    runs = await client.node_runs(execution_id)
    return {
        node_id: NodeStatus.Name(run.status).removeprefix("NODE_STATUS_") for node_id, run in runs.items()
    }


def refusal_of(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo, dict[str, str]]:
    """The one `ErrorInfo` of a refused call, and its field violations: path to reason."""
    (encoded,) = [value for key, value in error.trailing_metadata() if key == DETAILS_KEY]
    status = status_pb2.Status.FromString(encoded)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert len([detail for detail in status.details if detail.Unpack(info)]) == 1, status
    for detail in status.details:
        if detail.Unpack(request):
            break
    return info, {violation.field: violation.reason for violation in request.field_violations}
