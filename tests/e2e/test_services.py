"""What every service has: health, reflection, metrics, probes, status, a drain on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import aiohttp
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.local.service import KINDS, Service
from tests.support.client import Client, status_of
from tests.support.stack import StackUnderTest
from tests.support.waiting import until
from weconnect.executions.v1.api_service_pb2 import GetApiStatusRequest
from weconnect.executions.v1.api_service_pb2_grpc import ApiServiceStub
from weconnect.monitor.v1.monitor_service_pb2 import GetMonitorStatusRequest
from weconnect.monitor.v1.monitor_service_pb2_grpc import MonitorServiceStub
from weconnect.runner.v1.runner_service_pb2 import GetRunnerStatusRequest, ListNodeTypesRequest
from weconnect.runner.v1.runner_service_pb2_grpc import RunnerServiceStub
from weconnect.scheduler.v1.scheduler_service_pb2 import GetSchedulerStatusRequest
from weconnect.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

SERVICES = {
    "api": {
        "weconnect.executions.v1.ExecutionService", "weconnect.executions.v1.WorkflowService",
        "weconnect.executions.v1.ApiService",
    },
    "scheduler": {"weconnect.scheduler.v1.SchedulerService"},
    "runner": {"weconnect.runner.v1.RunnerService"},
    "monitor": {"weconnect.monitor.v1.MonitorService"},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_health_and_reflection(stack: StackUnderTest, kind: str) -> None:
    channel = stack.channel(f"{kind}-1")
    health: Any = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
    for service in ("", *SERVICES[kind]):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stub: Any = reflection_pb2_grpc.ServerReflectionStub
    reflection = stub(channel)
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    (listed,) = [answer async for answer in reflection.ServerReflectionInfo(iter(requests), timeout=10)]
    assert SERVICES[kind] <= {service.name for service in listed.list_services_response.service}


@pytest.mark.parametrize("kind", KINDS)
async def test_probes_and_metrics(stack: StackUnderTest, kind: str) -> None:
    base = f"http://{stack.services[f'{kind}-1'].http_address}"
    async with aiohttp.ClientSession() as session:
        for path in ("/healthz", "/readyz"):
            async with session.get(base + path) as response:
                assert response.status == 200, await response.text()
        async with session.get(base + "/metrics") as response:
            text = await response.text()
    assert "weconnect_" in text
    assert "process_cpu_seconds_total" in text
    assert "grpc_server_handled_total" in text


async def test_each_service_says_how_it_is(stack: StackUnderTest, client: Client) -> None:
    await client.run({"name": "status", "nodes": [{"id": "a", "type": "test.effect", "parameters": {}}]}, {})
    call: dict[str, Any] = {"metadata": client.metadata, "timeout": 10}
    api = await ApiServiceStub(stack.channel()).GetApiStatus(GetApiStatusRequest(), **call)
    assert api.database_connected and api.nats_connected and api.executions_started > 0
    scheduler_stub = SchedulerServiceStub(stack.channel("scheduler-1"))
    scheduler = await scheduler_stub.GetSchedulerStatus(GetSchedulerStatusRequest(), **call)
    assert sorted(scheduler.shards) == list(range(256))
    assert scheduler.executions_ended > 0

    async def heard() -> bool:
        status = await scheduler_stub.GetSchedulerStatus(GetSchedulerStatusRequest(), **call)
        return [runner.slots for runner in status.runners] == [100]

    await until(heard, "the scheduler has heard a whole beat of the runner")
    runner_stub = RunnerServiceStub(stack.channel("runner-1"))
    runner = await runner_stub.GetRunnerStatus(GetRunnerStatusRequest(), **call)
    assert runner.attempts_succeeded > 0
    types = await runner_stub.ListNodeTypes(ListNodeTypesRequest(page_size=100), **call)
    assert {"test.effect", "http.request", "shop.charge"} <= {
        node_type.name for node_type in types.node_types
    }
    monitor_stub = MonitorServiceStub(stack.channel("monitor-1"))

    async def counted() -> bool:
        status = await monitor_stub.GetMonitorStatus(GetMonitorStatusRequest(minutes=60), **call)
        return sum(minute.succeeded for minute in status.execution_minutes) > 0

    await until(counted, "the monitor has counted it")


async def test_logs_are_json_lines(stack: StackUnderTest) -> None:
    for name in ("api-1", "scheduler-1", "runner-1", "monitor-1"):
        for line in stack.logs()[name].splitlines():
            assert {"event", "level", "timestamp", "process"} <= json.loads(line).keys(), line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(120)
async def test_a_service_drains_and_ends_with_0(stack: StackUnderTest, client: Client, kind: str) -> None:
    """A second process of each kind takes its part of the work, and leaves none of it behind."""
    service = stack.add(kind)
    try:
        await service.start()
        await _drain_under_load(service, client, f"drain-{kind}")
    finally:
        await service.kill()
        del stack.services[service.name]


async def _drain_under_load(service: Service, client: Client, name: str) -> None:
    nodes = [{"id": f"n{n}", "type": "test.busy", "parameters": {"seconds": 0.5}} for n in range(20)]
    await client.create({"name": name, "nodes": nodes})
    started = [await client.start(name, {}) for _ in range(5)]
    service.send(signal.SIGTERM)
    assert await asyncio.wait_for(service.wait(), 40) == 0, service.child.tail()
    for execution in started:
        ended = await client.ended(execution)
        assert status_of(ended) == "SUCCESS"
        runs = await client.node_runs(ended.id)
        assert all(run.losses == 0 for run in runs.values())
