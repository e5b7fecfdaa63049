"""Watches, histories, logs and lists: ordered, resumable, without gaps."""

from __future__ import annotations

from typing import Any

from tests.support.client import CALL_SECONDS, Client, status_of
from weconnect.executions.v1 import execution_service_pb2 as pb
from weconnect.executions.v1 import workflow_service_pb2 as workflows_pb
from weconnect.executions.v1.enums_pb2 import (
    EXECUTION_STATUS_FAILED,
    EXECUTION_STATUS_SUCCESS,
    LOG_LEVEL_INFO,
    LOG_LEVEL_WARN,
)

Plain = dict[str, Any]

LINES = 7
# Every way an event can come about: a retry, a wait, two branches, log lines.
LIVELY: Plain = {
    "name": "lively",
    "nodes": [
        {"id": "flaky", "type": "test.flaky", "parameters": {"failures": 1},
         "retry_policy": {"max_attempts": 2, "backoff": "FIXED", "base_delay": "50ms"}},
        {"id": "nap", "type": "delay", "parameters": {"duration": "300ms"}},
        {"id": "talk", "type": "test.talkative", "parameters": {"lines": LINES}},
        {"id": "warn", "type": "log", "parameters": {"message": "careful", "level": "WARN", "data": {"n": 1}}},
        {"id": "skipped", "type": "noop", "when": "false"},
    ],
    "edges": [
        {"source": "flaky", "target": "nap"}, {"source": "nap", "target": "talk"},
        {"source": "talk", "target": "warn"}, {"source": "talk", "target": "skipped"},
    ],
}  # fmt: skip


async def _watched(
    client: Client, execution_id: str, after: int = 0
) -> tuple[list[tuple[Any, ...]], list[int]]:
    """Node changes of a whole watch as values, and the sequences of its messages."""
    changes: list[tuple[Any, ...]] = []
    sequences: list[int] = []
    async for message in client.watch(execution_id, after_sequence=after):
        sequences.append(message.sequence)
        changes += [
            (change.sequence, change.node_id, change.status, change.attempt)
            for change in message.node_changes
        ]
    return changes, sequences


async def test_a_watch_equals_the_history_and_resumes_anywhere(client: Client) -> None:
    await client.create(LIVELY)
    execution = await client.start("lively", {})
    live, sequences = await _watched(client, execution.id)
    assert sequences == sorted(sequences)
    events = await client.history(execution.id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert sequences[-1] == events[-1].sequence
    assert [change[0] for change in live] == sorted(change[0] for change in live)
    told = {(event.sequence, event.node_id) for event in events if event.node_id}
    assert told <= {(change[0], change[1]) for change in live}
    for after in range(len(events) + 1):
        resumed, _ = await _watched(client, execution.id, after)
        assert resumed == [change for change in live if change[0] > after], after


async def test_histories_come_by_page(client: Client) -> None:
    ended = await client.run({**LIVELY, "name": "lively-pages"}, {})
    whole = await client.history(ended.id)
    assert await client.history(ended.id, page_size=2) == whole
    request = pb.GetExecutionHistoryRequest(execution_id=ended.id, after_sequence=3)
    rest = await client.executions.GetExecutionHistory(
        request, metadata=client.metadata, timeout=CALL_SECONDS
    )
    assert list(rest.events) == whole[3:]
    assert whole[0].HasField("execution_started")
    assert whole[-1].execution_ended.status == EXECUTION_STATUS_SUCCESS
    assert ended.sequence == whole[-1].sequence


async def test_log_lines_are_in_order_live_and_later(client: Client) -> None:
    await client.create({**LIVELY, "name": "lively-logs"})
    execution = await client.start("lively-logs", {})
    live = [
        line.sequence
        async for message in client.watch(execution.id, include_logs=True)
        for line in message.logs
    ]
    logs = await _logs(client, execution.id)
    assert [line.sequence for line in logs] == list(range(1, LINES + 2)) == live
    assert [line.node_id for line in logs] == ["talk"] * LINES + ["warn"]
    assert [line.data.struct_value["number"] for line in logs[:LINES]] == list(range(LINES))
    assert {line.level for line in logs[:LINES]} == {LOG_LEVEL_INFO}
    assert [line.message for line in await _logs(client, execution.id, min_level=LOG_LEVEL_WARN)] == [
        "careful"
    ]
    assert len(await _logs(client, execution.id, after_sequence=5)) == LINES - 4
    assert len(await _logs(client, execution.id, node_id="talk", attempt=1)) == LINES


async def _logs(client: Client, execution_id: str, **filters: Any) -> list[Any]:
    request = pb.ListExecutionLogsRequest(execution_id=execution_id, **filters)
    answer = await client.executions.ListExecutionLogs(
        request, metadata=client.metadata, timeout=CALL_SECONDS
    )
    return list(answer.logs)


async def test_lists_page_and_filter(client: Client) -> None:
    await client.create({"name": "listed", "nodes": [{"id": "a", "type": "noop"}]})
    nodes = [{"id": "a", "type": "fail", "parameters": {"type": "NO", "message": "no"}}]
    await client.create({"name": "listed-bad", "nodes": nodes})
    good = [await client.start("listed", {}, labels={"suite": "lists", "n": str(n)}) for n in range(5)]
    bad = await client.start("listed-bad", {}, labels={"suite": "lists"})
    for execution in [*good, bad]:
        await client.ended(execution)
    found = await _executions(client, labels={"suite": "lists"})
    assert found == [execution.id for execution in reversed([*good, bad])]
    assert await _executions(client, page_size=2, labels={"suite": "lists"}) == found
    assert await _executions(client, labels={"suite": "lists"}, statuses=[EXECUTION_STATUS_FAILED]) == [
        bad.id
    ]
    assert await _executions(
        client, labels={"suite": "lists"}, workflow_name="listed", order_by="created_at asc"
    ) == [execution.id for execution in good]
    assert await _executions(client, labels={"suite": "lists", "n": "3"}) == [good[3].id]
    request = workflows_pb.ListWorkflowsRequest(name_prefix="listed")
    answer = await client.workflows.ListWorkflows(request, metadata=client.metadata, timeout=CALL_SECONDS)
    assert {workflow.name for workflow in answer.workflows} == {"listed", "listed-bad"}


async def _executions(client: Client, **filters: Any) -> list[str]:
    request = pb.ListExecutionsRequest(**filters)
    ids: list[str] = []
    while True:
        answer = await client.executions.ListExecutions(
            request, metadata=client.metadata, timeout=CALL_SECONDS
        )
        ids += [execution.id for execution in answer.executions]
        request.page_token = answer.next_page_token
        if not request.page_token:
            return ids


async def test_an_execution_is_listed_while_it_runs(client: Client) -> None:
    nodes = [{"id": "a", "type": "delay", "parameters": {"duration": "60s"}}]
    await client.create({"name": "listed-open", "nodes": nodes})
    execution = await client.start("listed-open", {}, labels={"suite": "open"})
    assert await _executions(client, labels={"suite": "open"}) == [execution.id]
    answer = await client.cancel(execution.id, force=True)
    assert status_of(answer.execution) == "CANCELLED"
    assert await _executions(client, labels={"suite": "open"}) == [execution.id]
