"""An api and a scheduler in the test's own loop, over a real database and bus, and a client of two organizations."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import orjson
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from services.adapters.config import (
    Address,
    ExecutionSettings,
    NatsSettings,
    SamplingSettings,
    ServerSettings,
    TokenSettings,
)
from services.adapters.lifecycle import Process
from services.adapters.tokens import Identity, mint_for, new_key_pair
from services.api.app import App
from services.api.config import ApiSettings
from services.api.main import serve as serve_api
from services.local.nats import EmbeddedNats
from services.scheduler import main as scheduler_main
from services.scheduler.config import SchedulerSettings
from tests.support.servers import Databases, empty_store
from weconnect.executions.v1 import (
    api_service_pb2_grpc,
    execution_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from weconnect.executions.v1 import execution_service_pb2 as executions
from weconnect.executions.v1 import workflow_service_pb2 as workflows

KEYS = new_key_pair()
EXECUTIONS = ExecutionSettings(300_000_000, 3_600_000_000, 3, 2_000_000)


def server_settings(port: int = 0) -> ServerSettings:
    """Settings of a server on a free port."""
    token = TokenSettings(KEYS.public_key, "weconnect", "weconnect.executions")
    return ServerSettings(Address("127.0.0.1", port), Address("127.0.0.1", 0), token, "WARN", channelz=False)


def token_of(organization_id: str, user_id: str = "ann") -> str:
    """Token of a user of an organization."""
    return mint_for(
        KEYS.private_key,
        Identity(organization_id, user_id),
        issuer="weconnect",
        audience="weconnect.executions",
        now=time.time_ns() // 1000,
    )


class Client:
    """Stubs that call on behalf of one organization."""

    def __init__(self, channel: grpc.aio.Channel, organization_id: str) -> None:
        self.metadata = (("authorization", f"Bearer {token_of(organization_id)}"),)
        self._stubs: list[Any] = [
            execution_service_pb2_grpc.ExecutionServiceStub(channel),
            workflow_service_pb2_grpc.WorkflowServiceStub(channel),
            api_service_pb2_grpc.ApiServiceStub(channel),
        ]

    def call(self, method: str, request: Any, timeout: float = 20.0) -> Any:
        """The call of a method, of whichever service has it."""
        for stub in self._stubs:
            if hasattr(stub, method):
                return getattr(stub, method)(request, metadata=self.metadata, timeout=timeout)
        raise AttributeError(method)

    async def create(self, **definition: Any) -> Any:
        """Create a workflow from a plain definition."""
        request = workflows.CreateWorkflowRequest(definition_json=orjson.dumps(definition))
        return (await self.call("CreateWorkflow", request)).workflow

    async def start(self, workflow_name: str, **fields: Any) -> Any:
        """Start an execution; answers with the whole response."""
        request = executions.StartExecutionRequest(workflow_name=workflow_name, exact_json=True)
        for name, value in fields.items():
            if name == "input":
                request.input_json = orjson.dumps(value)
            elif name in {"wait", "timeout"}:
                getattr(request, name).FromMilliseconds(int(value * 1000))
            elif name == "labels":
                request.labels.update(value)
            else:
                setattr(request, name, value)
        return await self.call("StartExecution", request)


async def refusal(awaitable: Any) -> tuple[str, Any, dict[str, Any]]:
    """Code, ErrorInfo and other details of a call that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    raw = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    found = {}
    for detail in status_pb2.Status.FromString(raw).details:
        name = detail.TypeName().rpartition(".")[2]
        found[name] = getattr(error_details_pb2, name).FromString(detail.value)
    return caught.value.code().name, found.pop("ErrorInfo"), found


@dataclass
class Stack:
    """What runs."""

    app: App
    api: Process
    acme: Client
    other: Client
    database_url: str
    nats_url: str
    port: int
    channel: grpc.aio.Channel


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(databases: Databases, nats_server: EmbeddedNats) -> AsyncIterator[Stack]:
    """An api and a scheduler; executions of local nodes run to their end."""
    url = await databases.migrated()
    await empty_store(nats_server)
    api, scheduler = Process("api"), Process("scheduler")
    nats = NatsSettings(nats_server.url, "")
    await scheduler_main._serve(
        scheduler, SchedulerSettings(url, nats, server_settings(), EXECUTIONS, SamplingSettings(False, 0.0))
    )
    app = await serve_api(api, ApiSettings(url, nats, server_settings(), EXECUTIONS))
    port = app.server.port
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Stack(
            app, api, Client(channel, "acme"), Client(channel, "other"), url, nats_server.url, port, channel
        )
    assert await api.drain() == 0
    await scheduler.drain()
    await databases.drop(url)
