"""The two systems that are measured: ours, and the floor. Each starts, runs one execution, and ends."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import grpc
import orjson
from google.protobuf import json_format

from benchmarks.workloads import PAYLOAD, definition
from services.local.nats import EmbeddedNats
from services.local.ports import free_port
from services.local.postgres import EmbeddedPostgres
from services.local.stack import Stack
from weconnect.executions.v1 import enums_pb2, execution_service_pb2, workflow_service_pb2
from weconnect.executions.v1.execution_service_pb2_grpc import ExecutionServiceStub
from weconnect.executions.v1.workflow_service_pb2_grpc import WorkflowServiceStub

INPUT = orjson.dumps(PAYLOAD)
RUNNER_SLOTS = "1000"
READY_SECONDS = 30.0


class System(Protocol):
    """Something that runs executions."""

    async def start(self, workflows: list[str]) -> None:
        """Start, and know these workflows."""

    async def run(self, workflow: str) -> None:
        """Run one execution to its end and check its output."""

    def pids(self) -> list[int]:
        """Roots of the process trees that belong to it."""

    async def stop(self) -> None:
        """End it."""


class Ours:
    """The four services, one process each."""

    def __init__(self, directory: Path) -> None:
        env = {
            **os.environ,
            "WECONNECT_APPS": "benchmarks.handlers:app",
            "WECONNECT_RUNNER_SLOTS": RUNNER_SLOTS,
            "WECONNECT_LOG_LEVEL": "WARN",
        }
        self.stack = Stack(directory, env=env)
        self._channel: grpc.aio.Channel | None = None

    async def start(self, workflows: list[str]) -> None:
        """Start the stack and register the workflows."""
        await self.stack.start()
        description = self.stack.describe()
        self._channel = grpc.aio.insecure_channel(description["api"])
        self._metadata = (("authorization", f"Bearer {description['token']}"),)
        self._executions = ExecutionServiceStub(self._channel)
        stub = WorkflowServiceStub(self._channel)
        for name in workflows:
            request = workflow_service_pb2.CreateWorkflowRequest()
            json_format.ParseDict({"definition": definition(name)}, request)
            await stub.CreateWorkflow(request, metadata=self._metadata)

    async def run(self, workflow: str) -> None:
        """One StartExecution with `wait`."""
        request = execution_service_pb2.StartExecutionRequest(
            workflow_name=f"bench-{workflow}",
            input_json=INPUT,
            mode=enums_pb2.EXECUTION_MODE_API,
            exact_json=True,
        )
        request.wait.FromSeconds(60)
        answer = await self._executions.StartExecution(request, metadata=self._metadata)
        execution = answer.execution
        if orjson.loads(execution.output_json) != {"value": PAYLOAD}:
            raise RuntimeError(f"wrong output of {workflow}: {execution}")

    def pids(self) -> list[int]:
        """Services and servers."""
        return [part.pid for part in self.stack.parts]

    async def stop(self) -> None:
        """End the stack."""
        if self._channel is not None:
            await self._channel.close()
        await self.stack.stop()


class Floor:
    """The floor with its promises: three processes on servers of their own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._postgres = EmbeddedPostgres(directory / "postgres", log=directory / "postgres.log")
        self._nats = EmbeddedNats(directory / "nats", log=directory / "nats.log")
        self._processes: list[subprocess.Popen[bytes]] = []

    async def start(self, workflows: list[str]) -> None:
        """Compile its contract, start its servers and processes."""
        self._directory.mkdir(parents=True, exist_ok=True)
        await asyncio.gather(self._postgres.start(), self._nats.start())
        source = Path(__file__).parent / "floor"
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{source}", f"--python_out={self._directory}",
             f"--grpc_python_out={self._directory}", str(source / "floor.proto")],
            check=True,
        )  # fmt: skip
        address = f"127.0.0.1:{free_port()}"
        env = {
            **os.environ,
            "FLOOR_PROMISED": "1",
            "FLOOR_PG": self._postgres.url,
            "FLOOR_NATS": self._nats.url,
            "FLOOR_GRPC": address,
            "PYTHONPATH": str(self._directory),
        }
        command = [sys.executable, str(source / "floor.py")]
        subprocess.run([*command, "setup"], env=env, check=True)
        self._processes = [
            subprocess.Popen([*command, role], env=env) for role in ("scheduler", "runner", "api")
        ]
        sys.path.insert(0, str(self._directory))
        self._pb: Any = importlib.import_module("floor_pb2")
        self._channel = grpc.aio.insecure_channel(address)
        self._stub: Any = importlib.import_module("floor_pb2_grpc").FloorStub(self._channel)
        await asyncio.wait_for(self._channel.channel_ready(), READY_SECONDS)
        # Its scheduler and runner say nothing when they are ready: the first execution does.
        while True:
            try:
                request = self._pb.StartRequest(workflow="single", input=INPUT)
                await self._stub.StartAndWait(request, timeout=1.0)
                return
            except grpc.aio.AioRpcError:
                continue

    async def run(self, workflow: str) -> None:
        """One StartAndWait."""
        answer = await self._stub.StartAndWait(self._pb.StartRequest(workflow=workflow, input=INPUT))
        if answer.output != INPUT:
            raise RuntimeError("wrong output of the floor")

    def pids(self) -> list[int]:
        """Its processes and servers."""
        return [process.pid for process in self._processes] + [self._postgres.pid, self._nats.pid]

    async def stop(self) -> None:
        """End its processes and servers."""
        await self._channel.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        await self._nats.stop()
        await self._postgres.stop()
