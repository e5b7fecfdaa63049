"""Narrow scenarios: one promise each, on real processes. They raise AssertionError when it is broken."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import psycopg

from tests.faults.truth import Truth
from tests.support.client import Client, status_of
from tests.support.stack import StackUnderTest
from tests.support.waiting import pause, until
from weconnect.executions.v1.enums_pb2 import NODE_STATUS_RUNNING

Plain = dict[str, Any]

EFFECT: Plain = {"name": "effect", "nodes": [{"id": "a", "type": "test.effect", "parameters": {"value": 1}}]}
# Longer than everything that repair has to wait for: a lease, a sweep, 2 × AckWait.
HEALING_SECONDS = 45.0
LOADED = 6


async def accepted_while_nobody_listens(stack: StackUnderTest) -> None:
    """Executions whose nudge nobody heard begin all the same."""
    client = Client(stack)
    await client.create(EFFECT)
    await stack.kill("scheduler-1")
    started = [await client.start("effect", {}) for _ in range(LOADED)]
    await stack.restart("scheduler-1")
    await _all_end(stack, [execution.id for execution in started])


async def tasks_lost_with_the_store(stack: StackUnderTest) -> None:
    """Tasks that were in a wiped store are published again."""
    client = Client(stack)
    await client.create(EFFECT)
    await stack.kill("runner-1")
    started = [await client.start("effect", {}) for _ in range(LOADED)]

    async def dispatched() -> bool:
        return all([len(await client.history(execution.id)) >= 2 for execution in started])

    await until(dispatched, "the tasks are out")
    await stack.wipe_nats()
    await stack.restart("runner-1")
    await _all_end(stack, [execution.id for execution in started])


async def _all_end(stack: StackUnderTest, execution_ids: list[str]) -> None:
    truth = Truth(stack.postgres.url)

    async def ended() -> bool:
        return await truth.open_count() == 0

    try:
        await until(ended, "everything has ended", HEALING_SECONDS, every=0.2)
        found = {record.id: record.row.status for record in await truth.records()}
        assert {execution_id: found.get(execution_id) for execution_id in execution_ids} == dict.fromkeys(
            execution_ids, "success"
        )
    finally:
        await truth.close()


async def acknowledged_start_survives_the_api(stack: StackUnderTest) -> None:
    """A start that the database has not taken is not acknowledged: the api may die at that moment."""
    client = Client(stack)
    await client.create(EFFECT)
    acknowledged: list[str] = []
    async with await psycopg.AsyncConnection.connect(stack.postgres.url) as locks:
        await locks.execute("lock table open_executions in share mode")
        starts = [asyncio.ensure_future(client.start("effect", {})) for _ in range(LOADED)]
        await asyncio.wait(starts, timeout=3.0)
        await stack.kill("api-1")
        for answer in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(answer, BaseException):
                assert isinstance(answer, grpc.aio.AioRpcError), answer
            else:
                acknowledged.append(answer.id)
        # Whatever the dead process had sent must not be counted as kept: its backends end with it.
        await locks.rollback()
    await stack.restart("api-1")
    await _all_end(stack, acknowledged)


async def result_waits_for_its_verdict(stack: StackUnderTest) -> None:
    """A result that finds no owner is sent again, not forgotten: no attempt is lost while its runner lives."""
    client = Client(stack)
    gate = stack.directory / "gate"
    nodes = [{"id": f"n{n}", "type": "test.gate", "parameters": {"path": str(gate)}} for n in range(LOADED)]
    await client.create({"name": "gated", "nodes": nodes})
    execution = await client.start("gated", {})

    async def running() -> bool:
        runs = (await client.node_runs(execution.id)).values()
        return all(run.status == NODE_STATUS_RUNNING for run in runs)

    await until(running, "all nodes run")
    await stack.kill("scheduler-1")
    gate.touch()
    await until(lambda: len(stack.ledger.effects()) >= LOADED, "all nodes took effect")
    await pause(2.0)
    await stack.restart("scheduler-1")
    assert status_of(await client.ended(execution)) == "SUCCESS"
    runs = await client.node_runs(execution.id)
    assert {name: run.losses for name, run in runs.items()} == dict.fromkeys(runs, 0)
    assert set(stack.ledger.attempts().values()) == {1}


async def rollups_miss_nothing(stack: StackUnderTest) -> None:
    """What happened while no monitor lived is in the roll-ups."""
    client = Client(stack)
    await client.create(EFFECT)
    await stack.kill("monitor-1")
    for _ in range(LOADED):
        await client.ended(await client.start("effect", {}))
    await stack.restart("monitor-1")
    await client.ended(await client.start("effect", {}))
    truth = Truth(stack.postgres.url)

    async def counted() -> Counter[str]:
        return (await truth.rolled_up())[0]

    async def enough() -> bool:
        return (await counted())["success"] >= LOADED + 1

    try:
        await until(enough, "the monitor has counted all", 15.0)
        assert await counted() == {"started": LOADED + 1, "success": LOADED + 1}
    finally:
        await truth.close()
