"""The services of api, added to a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from services.adapters.postgres.workflow_lists import WorkflowLists
from services.api.app import App
from services.api.servicer.executions import ExecutionServicer
from services.api.servicer.status import ApiServicer
from services.api.servicer.workflows import WorkflowServicer
from weconnect.executions.v1 import api_service_pb2_grpc as api_rpc
from weconnect.executions.v1 import execution_service_pb2_grpc as execution_rpc
from weconnect.executions.v1 import workflow_service_pb2_grpc as workflow_rpc

if TYPE_CHECKING:
    import grpc


def add_services(app: App, workflow_lists: WorkflowLists) -> None:
    """Serve everything that api serves."""
    # GrpcServer takes the generated functions' calls as a grpc.aio server does.
    server = cast("grpc.aio.Server", app.server)
    workflow_rpc.add_WorkflowServiceServicer_to_server(WorkflowServicer(app, workflow_lists), server)
    execution_rpc.add_ExecutionServiceServicer_to_server(ExecutionServicer(app), server)
    api_rpc.add_ApiServiceServicer_to_server(ApiServicer(app), server)
