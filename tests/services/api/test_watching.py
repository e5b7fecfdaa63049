"""Watches: every change in order, from any place on, with and without hints; logs; heartbeats; the final message."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
import pytest_asyncio

from services.adapters.nats import topology
from services.core.ids import parse_uuid
from services.core.records import LogRow
from tests.services.api.conftest import Client, Stack, refusal
from weconnect.executions.v1 import enums_pb2 as enums
from weconnect.executions.v1 import execution_service_pb2 as pb

STEPS = {
    "name": "steps",
    "nodes": [
        {"id": "choose", "type": "condition", "parameters": {"condition": "true"}},
        {"id": "pause", "type": "delay", "parameters": {"duration": "300ms"}},
        {"id": "never", "type": "noop"},
        {"id": "below", "type": "noop"},
        {"id": "last", "type": "noop"},
    ],
    "edges": [
        {"source": "choose", "target": "pause", "port": "true"},
        {"source": "choose", "target": "never", "port": "false"},
        {"source": "never", "target": "below"},
        {"source": "pause", "target": "last"},
    ],
    "output": {"done": True},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def steps(stack: Stack) -> str:
    await stack.acme.create(**STEPS)
    await stack.acme.create(
        name="slow", nodes=[{"id": "a", "type": "delay", "parameters": {"duration": "1h"}}]
    )
    return "steps"


async def _all(client: Client, execution_id: str, **fields: Any) -> list[Any]:
    request = pb.WatchExecutionRequest(execution_id=execution_id, exact_json=True, **fields)
    return [message async for message in client.call("WatchExecution", request)]


def _changes(messages: list[Any]) -> list[tuple[int, str, str]]:
    return [
        (change.sequence, change.node_id, enums.NodeStatus.Name(change.status).removeprefix("NODE_STATUS_"))
        for message in messages
        for change in message.node_changes
    ]


async def test_every_change_comes_in_order_and_then_the_end(stack: Stack, steps: str) -> None:
    execution = (await stack.acme.start(steps)).execution
    messages = await _all(stack.acme, execution.id)
    changes = _changes(messages)
    assert [change[0] for change in changes] == sorted(change[0] for change in changes)
    assert [(node, status) for _, node, status in changes] == [
        ("choose", "SUCCESS"), ("never", "SKIPPED"), ("below", "SKIPPED"), ("pause", "WAITING"),
        ("pause", "SUCCESS"), ("last", "SUCCESS"),
    ]  # fmt: skip
    final = messages[-1]
    assert final.final
    assert final.status == enums.EXECUTION_STATUS_SUCCESS
    assert final.progress.percent == 100
    assert orjson.loads(final.execution.output_json) == {"done": True}
    assert final.sequence == final.execution.sequence
    assert [message.final for message in messages[:-1]] == [False] * (len(messages) - 1)
    percents = [message.progress.percent for message in messages]
    assert percents == sorted(percents)


async def test_a_watch_resumes_anywhere_without_a_gap(stack: Stack, steps: str) -> None:
    execution = (await stack.acme.start(steps, wait=10)).execution
    whole = _changes(await _all(stack.acme, execution.id))
    for after in range(execution.sequence + 1):
        messages = await _all(stack.acme, execution.id, after_sequence=after)
        assert _changes(messages) == [change for change in whole if change[0] > after]
        assert messages[-1].final
    code, _, details = await refusal(_first(stack.acme, execution.id, after_sequence=execution.sequence + 1))
    assert code == "INVALID_ARGUMENT"
    assert details["BadRequest"].field_violations[0].field == "after_sequence"


async def _first(client: Client, execution_id: str, **fields: Any) -> Any:
    call = client.call("WatchExecution", pb.WatchExecutionRequest(execution_id=execution_id, **fields))
    try:
        return await call.read()
    finally:
        call.cancel()


async def test_the_first_message_shows_where_it_stands(stack: Stack, steps: str) -> None:
    execution = (await stack.acme.start("slow", wait=0.3)).execution
    message = await _first(stack.acme, execution.id, after_sequence=execution.sequence)
    assert message.status == enums.EXECUTION_STATUS_RUNNING
    assert message.sequence == execution.sequence
    assert not message.node_changes
    assert [node.node_id for node in message.progress.open_nodes] == ["a"]


async def test_many_watchers_of_many_executions(stack: Stack, steps: str) -> None:
    ids = [(await stack.acme.start(steps)).execution.id for _ in range(20)]
    results = await asyncio.gather(*(_all(stack.acme, execution_id) for execution_id in ids * 3))
    expected = _changes(results[0])
    assert all(_changes(messages) == expected for messages in results)
    assert all(messages[-1].final for messages in results)
    assert len(stack.app.watches) == 0


async def test_without_hints_the_sweep_brings_everything(stack: Stack, steps: str) -> None:
    stack.app.hearing.close()
    try:
        execution = (await stack.acme.start(steps)).execution
        messages = await _all(stack.acme, execution.id)
        assert len(_changes(messages)) == 6
        assert messages[-1].final
    finally:
        stack.app.hearing.open()


async def test_idle_watches_send_heartbeats(
    stack: Stack, steps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.watching.HEARTBEAT_SECONDS", 0.05)
    execution = (await stack.acme.start("slow", wait=0.3)).execution
    call = stack.acme.call("WatchExecution", pb.WatchExecutionRequest(execution_id=execution.id))
    first, second = await call.read(), await call.read()
    assert not first.heartbeat
    assert second.heartbeat
    assert second.sequence == first.sequence
    call.cancel()


async def test_logs_come_with_a_watch_and_resume(stack: Stack, steps: str) -> None:
    execution = (await stack.acme.start("slow", wait=0.3)).execution
    execution_id = parse_uuid(execution.id)

    async def write(first: int, last: int) -> None:
        lines = [
            LogRow(
                execution_id,
                0,
                "a",
                "A",
                "delay",
                1,
                number,
                2,
                f"line {number}".encode(),
                1_700_000_000_000_000,
            )
            for number in range(first, last + 1)
        ]
        await stack.app.logs.append(lines)
        stack.app.bus.publish(topology.logs_subject(execution.id), b"")

    await write(1, 250)
    request = pb.WatchExecutionRequest(execution_id=execution.id, include_logs=True, after_log_sequence=3)
    call = stack.acme.call("WatchExecution", request)
    seen: list[int] = []
    while len(seen) < 247:
        message = await call.read()
        seen.extend(line.sequence for line in message.logs)
        assert message.log_sequence in (3, *seen)
    assert seen == list(range(4, 251))
    await write(251, 252)
    while len(seen) < 249:
        seen.extend(line.sequence for line in (await call.read()).logs)
    assert seen[-2:] == [251, 252]
    await stack.acme.call("CancelExecution", pb.CancelExecutionRequest(execution_id=execution.id))
    while not (message := await call.read()).final:
        pass
    assert message.log_sequence == 252


async def test_a_watch_of_a_failure_names_the_error(stack: Stack, steps: str) -> None:
    await stack.acme.create(
        name="fails", nodes=[{"id": "a", "type": "fail", "parameters": {"type": "NO", "message": "never"}}]
    )
    execution = (await stack.acme.start("fails", wait=10)).execution
    messages = await _all(stack.acme, execution.id)
    (change,) = [change for message in messages for change in message.node_changes]
    assert (change.error.type, change.error.message) == ("NO", "never")
    assert messages[-1].execution.status == enums.EXECUTION_STATUS_FAILED
