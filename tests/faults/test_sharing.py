"""Two schedulers and three runners share the work; shards change hands quickly, by death and by hand-over."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from tests.faults.campaign import COUNTS
from tests.support.client import Client, status_of
from tests.support.stack import Stacks, StackUnderTest
from tests.support.waiting import until
from weconnect.runner.v1.runner_service_pb2 import GetRunnerStatusRequest
from weconnect.runner.v1.runner_service_pb2_grpc import RunnerServiceStub
from weconnect.scheduler.v1.scheduler_service_pb2 import GetSchedulerStatusRequest, GetSchedulerStatusResponse
from weconnect.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

TAKE_OVER_SECONDS = 10.0
GAP_SECONDS_MAX = 2.0
STEPS = 70
STEP_SECONDS = 0.1
WALKERS = 24


async def _scheduler(stack: StackUnderTest, name: str) -> GetSchedulerStatusResponse:
    stub = SchedulerServiceStub(stack.channel(name))
    return await stub.GetSchedulerStatus(GetSchedulerStatusRequest(), metadata=stack.metadata(), timeout=5)


def _walk() -> dict[str, Any]:
    """A chain of short tasks: while it runs something happens to it all the time."""
    nodes = [
        {"id": f"n{n}", "type": "test.busy", "parameters": {"seconds": STEP_SECONDS}} for n in range(STEPS)
    ]
    edges = [{"source": a["id"], "target": b["id"]} for a, b in pairwise(nodes)]
    return {"name": "walk", "nodes": nodes, "edges": edges}


async def _until_owned(stack: StackUnderTest, *names: str, seconds: float) -> None:
    """Until these schedulers own all shards, each as many as the other."""

    async def shared() -> bool:
        owned = [set((await _scheduler(stack, name)).shards) for name in names]
        whole = set().union(*owned) == set(range(256)) and sum(map(len, owned)) == 256
        return whole and all(len(shards) == 256 // len(names) for shards in owned)

    await until(shared, f"{names} own all shards", seconds)


async def _longest_gap(client: Client, execution_id: str) -> float:
    events = await client.history(execution_id)
    instants = [event.at.ToMicroseconds() for event in events]
    return max(after - before for before, after in pairwise(instants)) / 1_000_000


@pytest.mark.timeout(180)
async def test_work_is_shared_taken_over_and_handed_over(stacks: Stacks) -> None:
    stack = await stacks.start(counts=COUNTS)
    client = Client(stack)
    await client.create(_walk())
    await _until_owned(stack, "scheduler-1", "scheduler-2", seconds=30)

    # A scheduler is killed: the other has all shards within 10 s, and everything ends.
    started = [await client.start("walk", {}) for _ in range(WALKERS)]
    loop = asyncio.get_running_loop()
    await stack.kill("scheduler-1")
    killed_at = loop.time()
    await _until_owned(stack, "scheduler-2", seconds=TAKE_OVER_SECONDS)
    assert loop.time() - killed_at <= TAKE_OVER_SECONDS

    # It comes back while others run: its shards are handed over, and nobody waits for it.
    more = [await client.start("walk", {}) for _ in range(WALKERS)]
    await stack.restart("scheduler-1")
    await _until_owned(stack, "scheduler-1", "scheduler-2", seconds=20)
    for execution in started + more:
        assert status_of(await client.ended(execution)) == "SUCCESS"
    gaps = [await _longest_gap(client, execution.id) for execution in more]
    assert max(gaps) <= GAP_SECONDS_MAX, sorted(gaps)[-5:]

    for name in ("scheduler-1", "scheduler-2"):
        status = await _scheduler(stack, name)
        assert status.tasks_dispatched > 0, name
        assert status.executions_ended > 0, name
    for service in stack.of("runner"):
        stub = RunnerServiceStub(stack.channel(service.name))
        runner = await stub.GetRunnerStatus(GetRunnerStatusRequest(), metadata=stack.metadata(), timeout=5)
        assert runner.attempts_succeeded > 0, service.name
