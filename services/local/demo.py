"""`demo`: an order workflow that does real work, on a stack of its own that leaves nothing behind.

It starts everything, registers `examples/order.yaml`, starts it, shows it live, and prints what came of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.json_format import MessageToDict
from rich.console import Console

from services.adapters.yaml_files import read_yaml
from services.local.child import ProcessFailed
from services.local.service import Service
from services.local.stack import Stack
from services.local.watch import make_view, microseconds, word
from weconnect.executions.v1.enums_pb2 import (
    EXECUTION_MODE_API,
    EXECUTION_STATUS_SUCCESS,
    ExecutionStatus,
)
from weconnect.executions.v1.execution_pb2 import Execution
from weconnect.executions.v1.execution_service_pb2 import StartExecutionRequest, WatchExecutionRequest
from weconnect.executions.v1.execution_service_pb2_grpc import ExecutionServiceStub
from weconnect.executions.v1.workflow_service_pb2 import CreateWorkflowRequest
from weconnect.executions.v1.workflow_service_pb2_grpc import WorkflowServiceStub

if TYPE_CHECKING:  # exists for the type checker alone
    from weconnect.executions.v1.execution_service_pb2_grpc import ExecutionServiceAsyncStub

APPS = "examples.shop:app"
WORKFLOW = Path("examples/order.yaml")
ITEMS = [{"article": "lamp", "quantity": 2}, {"article": "book", "quantity": 3}]
CALL_SECONDS = 30.0
RUN_SECONDS = 120.0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class Demo:
    """One run of the demonstration."""

    def __init__(self, stack: Stack, definition: dict[str, Any], console: Console) -> None:
        self._stack = stack
        self._definition = definition
        self._console = console
        self._shop: Service | None = None

    async def run(self) -> int:
        """Exit code: 0 when the order succeeded."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._console.print("[bold]Starting[/] PostgreSQL, NATS, the four services and a small shop …")
        await self._stack.start()
        self._shop = self._make_shop()
        await self._shop.start()
        self._console.print(f"Ready after {loop.time() - began:.1f} s.\n")
        async with grpc.aio.insecure_channel(self._stack.of("api")[0].grpc_address) as channel:
            execution = await self._order(channel)
        self._print_result(execution)
        return 0 if execution.status == EXECUTION_STATUS_SUCCESS else EXIT_FAILED

    async def end(self) -> None:
        """End everything that was started; only logs are left."""
        if self._shop is not None:
            await self._shop.stop()
        await self._stack.discard()

    def _make_shop(self) -> Service:
        shop = Service("shop", "shop", env=os.environ, log=self._stack.directory / "logs" / "shop.log")
        shop.child.command = [sys.executable, "-m", "examples.demo_shop", shop.http_address]
        return shop

    async def _order(self, channel: grpc.aio.Channel) -> Execution:
        assert self._shop is not None
        metadata = (("authorization", f"Bearer {self._stack.access.token()}"),)
        definition = self._definition
        created = await WorkflowServiceStub(channel).CreateWorkflow(
            CreateWorkflowRequest(definition_json=json.dumps(definition).encode()),
            metadata=metadata,
            timeout=CALL_SECONDS,
        )
        workflow = created.workflow
        self._console.print(
            f"Registered workflow [bold]{workflow.name}[/] version {workflow.version} from {WORKFLOW}: "
            f"{len(definition['nodes'])} nodes, {len(definition['edges'])} edges."
        )
        order = {"order_id": "demo-1", "items": ITEMS, "shop": f"http://{self._shop.http_address}"}
        executions = ExecutionServiceStub(channel)
        started = await executions.StartExecution(
            StartExecutionRequest(
                workflow_name=workflow.name,
                input_json=json.dumps(order).encode(),
                mode=EXECUTION_MODE_API,
                idempotency_key="demo-1",
            ),
            metadata=metadata,
            timeout=CALL_SECONDS,
        )
        self._console.print(f"Started execution [bold]{started.execution.id}[/].\n")
        nodes = [(node["id"], node["type"]) for node in definition["nodes"]]
        return await self._watch(executions, started.execution.id, nodes, metadata)

    async def _watch(
        self,
        executions: ExecutionServiceAsyncStub,
        execution_id: str,
        nodes: list[tuple[str, str]],
        metadata: tuple[tuple[str, str], ...],
    ) -> Execution:
        call = executions.WatchExecution(
            WatchExecutionRequest(execution_id=execution_id), metadata=metadata, timeout=RUN_SECONDS
        )
        try:
            with make_view(nodes, self._console) as view:
                async for message in call:
                    view.show(message)
                    if message.final:
                        return message.execution
        finally:
            call.cancel()  # an abandoned stream is never collected
        raise RuntimeError("the watch ended before the execution did")

    def _print_result(self, execution: Execution) -> None:
        status = word(ExecutionStatus.Name(execution.status))
        succeeded = execution.status == EXECUTION_STATUS_SUCCESS
        waited_us = microseconds(execution.started_at) - microseconds(execution.created_at)
        self._console.print(
            f"\n[bold {'green' if succeeded else 'red'}]{status}[/] in {execution.duration_ms} ms "
            f"({waited_us / 1000:.1f} ms from acceptance to the first decision); "
            f"{execution.nodes_executed} nodes ran, {execution.nodes_failed} failed."
        )
        if succeeded:
            self._console.print_json(json.dumps(MessageToDict(execution.output)))
        else:
            self._console.print(execution.error.message, markup=False)


def demo() -> int:
    """Run the demonstration; exit code."""
    if not WORKFLOW.is_file():
        print(f"{WORKFLOW} is not here: run the demo in the project's directory (`make demo` does)")
        return EXIT_FAILED
    try:
        return asyncio.run(_demo(read_yaml(WORKFLOW.read_text(encoding="utf-8"))))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


async def _demo(definition: dict[str, Any]) -> int:
    console = Console(highlight=False, soft_wrap=True)
    directory = Path(tempfile.mkdtemp(prefix="weconnect-demo-"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("WECONNECT_")}
    run = Demo(Stack(directory, env={**env, "WECONNECT_APPS": APPS}), definition, console)
    ourselves = asyncio.current_task()
    assert ourselves is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ourselves.cancel)
    keep_logs = False
    try:
        return await run.run()
    except (ProcessFailed, grpc.aio.AioRpcError) as error:
        keep_logs = True
        said = (
            f"{error.code().name}: {error.details()}"
            if isinstance(error, grpc.aio.AioRpcError)
            else str(error)
        )
        console.print(f"{said}\nThe logs are kept in {directory / 'logs'}.", markup=False)
        return EXIT_FAILED
    finally:
        await run.end()
        if not keep_logs:
            shutil.rmtree(directory, ignore_errors=True)
        console.print("Everything is stopped; nothing is left running.")
