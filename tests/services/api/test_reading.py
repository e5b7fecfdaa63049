"""Reading executions: open and ended, lists and their pages, node runs, history, logs; strangers see nothing."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import pytest_asyncio

from services.core.ids import parse_uuid
from services.core.records import LogRow
from tests.services.api.conftest import Client, Stack, refusal
from weconnect.executions.v1 import enums_pb2 as enums
from weconnect.executions.v1 import execution_service_pb2 as pb

BRANCHES = {
    "name": "branches",
    "nodes": [
        {"id": "choose", "type": "condition", "parameters": {"condition": "input.yes"}},
        {"id": "yes", "type": "set", "name": "Say yes", "parameters": {"vars": {"said": "yes"}}},
        {"id": "no", "type": "noop"},
        {"id": "after_no", "type": "noop"},
    ],
    "edges": [
        {"source": "choose", "target": "yes", "port": "true"},
        {"source": "choose", "target": "no", "port": "false"},
        {"source": "no", "target": "after_no"},
    ],
    "output": {"said": "${ vars.said }"},
    "vars": {"said": "nothing"},
}
WAITING = {
    "name": "waiting",
    "nodes": [
        {"id": "first", "type": "noop"},
        {"id": "pause", "type": "delay", "parameters": {"duration": "1h"}},
        {"id": "last", "type": "noop"},
    ],
    "edges": [{"source": "first", "target": "pause"}, {"source": "pause", "target": "last"}],
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ended(stack: Stack) -> Any:
    await stack.acme.create(**BRANCHES)
    return (await stack.acme.start("branches", input={"yes": True}, wait=10)).execution


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def waiting(stack: Stack) -> Any:
    await stack.acme.create(**WAITING)
    execution = (
        await stack.acme.start("waiting", input={"n": 1}, wait=0.5, idempotency_key="waiting")
    ).execution
    assert execution.status == enums.EXECUTION_STATUS_RUNNING
    return execution


async def _pages(client: Client, method: str, request: Any, field: str) -> list[Any]:
    found: list[Any] = []
    while True:
        page = await client.call(method, request)
        found.extend(getattr(page, field))
        if not page.next_page_token:
            return found
        assert len(getattr(page, field)) <= (request.page_size or 100)
        request.page_token = page.next_page_token


async def test_an_ended_execution_is_read_whole(stack: Stack, ended: Any) -> None:
    answer = await stack.acme.call(
        "GetExecution", pb.GetExecutionRequest(execution_id=ended.id, exact_json=True)
    )
    execution = answer.execution
    assert orjson.loads(execution.output_json) == {"said": "yes"}
    assert orjson.loads(execution.context_json) == {"said": "yes"}
    assert orjson.loads(execution.input_json) == {"yes": True}
    assert (execution.metrics.total_nodes, execution.metrics.skipped_nodes) == (4, 2)
    assert (answer.progress.percent, answer.progress.nodes_done) == (100, 4)
    basic = await stack.acme.call(
        "GetExecution", pb.GetExecutionRequest(execution_id=ended.id, view=enums.VIEW_BASIC)
    )
    assert not basic.execution.WhichOneof("output_value")
    assert basic.execution.output_size_bytes == len(execution.output_json)


async def test_an_open_execution_is_folded(stack: Stack, waiting: Any) -> None:
    by_key = await stack.acme.call("GetExecution", pb.GetExecutionRequest(idempotency_key="waiting"))
    execution, progress = by_key.execution, by_key.progress
    assert execution.id == waiting.id
    assert execution.status == enums.EXECUTION_STATUS_RUNNING
    assert execution.nodes_executed == 1
    assert execution.HasField("started_at")
    assert (progress.nodes_total, progress.nodes_done, progress.nodes_waiting, progress.percent) == (
        3,
        1,
        1,
        33,
    )
    assert [node.node_id for node in progress.open_nodes] == ["pause"]
    assert progress.open_nodes[0].waiting_for == enums.WAITING_FOR_TIMER
    assert progress.open_nodes[0].HasField("until")


async def test_strangers_find_nothing(stack: Stack, ended: Any, waiting: Any) -> None:
    for execution_id in (ended.id, waiting.id, "0193e0c0-0000-7000-8000-000000000000"):
        for method, request in [
            ("GetExecution", pb.GetExecutionRequest(execution_id=execution_id)),
            ("WaitExecution", pb.WaitExecutionRequest(execution_id=execution_id)),
            ("CancelExecution", pb.CancelExecutionRequest(execution_id=execution_id)),
            ("ListNodeRuns", pb.ListNodeRunsRequest(execution_id=execution_id)),
            ("GetExecutionHistory", pb.GetExecutionHistoryRequest(execution_id=execution_id)),
            ("ListExecutionLogs", pb.ListExecutionLogsRequest(execution_id=execution_id)),
        ]:
            code, info, _ = await refusal(stack.other.call(method, request))
            assert (code, info.reason, info.metadata["executionId"]) == (
                "NOT_FOUND", "EXECUTION_NOT_FOUND", execution_id,
            )  # fmt: skip
        code, _, _ = await refusal(
            stack.other.call("WatchExecution", pb.WatchExecutionRequest(execution_id=execution_id)).read()
        )
        assert code == "NOT_FOUND"
    assert not (await stack.other.call("ListExecutions", pb.ListExecutionsRequest())).executions
    code, _, _ = await refusal(
        stack.other.call("GetExecution", pb.GetExecutionRequest(idempotency_key="waiting"))
    )
    assert code == "NOT_FOUND"


async def test_lists_page_and_filter(stack: Stack, ended: Any, waiting: Any) -> None:
    for n in range(5):
        await stack.acme.start(
            "branches", input={"yes": False}, wait=10, labels={"n": str(n), "kind": "listed"}
        )
    listed = await _pages(
        stack.acme,
        "ListExecutions",
        pb.ListExecutionsRequest(page_size=2, labels={"kind": "listed"}),
        "executions",
    )
    assert [execution.labels["n"] for execution in listed] == ["4", "3", "2", "1", "0"]
    oldest = await _pages(
        stack.acme,
        "ListExecutions",
        pb.ListExecutionsRequest(page_size=2, labels={"kind": "listed"}, order_by="created_at asc"),
        "executions",
    )
    assert [execution.labels["n"] for execution in oldest] == ["0", "1", "2", "3", "4"]
    running = await _pages(
        stack.acme,
        "ListExecutions",
        pb.ListExecutionsRequest(statuses=[enums.EXECUTION_STATUS_RUNNING]),
        "executions",
    )
    assert [execution.id for execution in running] == [waiting.id]
    assert running[0].HasField("started_at")
    assert running[0].nodes_executed == 1
    named = await _pages(
        stack.acme, "ListExecutions", pb.ListExecutionsRequest(workflow_name="waiting"), "executions"
    )
    assert [execution.id for execution in named] == [waiting.id]
    assert not await _pages(
        stack.acme, "ListExecutions", pb.ListExecutionsRequest(workflow_name="nothing"), "executions"
    )
    request = pb.ListExecutionsRequest(labels={"n": "3"}, view=enums.VIEW_FULL, exact_json=True)
    (full,) = await _pages(stack.acme, "ListExecutions", request, "executions")
    assert orjson.loads(full.output_json) == {"said": "nothing"}


async def test_page_tokens_are_bound_to_their_filter(stack: Stack, ended: Any) -> None:
    await stack.acme.start("branches", input={"yes": True}, wait=10)
    page = await stack.acme.call("ListExecutions", pb.ListExecutionsRequest(page_size=1))
    assert page.next_page_token
    for request in (
        pb.ListExecutionsRequest(page_token=page.next_page_token, workflow_name="branches"),
        pb.ListExecutionsRequest(page_token="nonsense"),
        pb.ListExecutionsRequest(page_token=page.next_page_token + "x" * 3000),
    ):
        code, info, _ = await refusal(stack.acme.call("ListExecutions", request))
        assert (code, info.reason) == ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")
    code, _, details = await refusal(
        stack.acme.call(
            "ListExecutions", pb.ListExecutionsRequest(page_size=101, order_by="id", workflow_id="x")
        )
    )
    fields = {violation.field for violation in details["BadRequest"].field_violations}
    assert fields == {"page_size", "order_by", "workflow_id"}


async def test_node_runs_come_in_the_definitions_order(stack: Stack, ended: Any) -> None:
    request = pb.ListNodeRunsRequest(
        execution_id=ended.id, page_size=3, view=enums.VIEW_FULL, exact_json=True
    )
    runs = await _pages(stack.acme, "ListNodeRuns", request, "node_runs")
    assert [run.node_id for run in runs] == ["choose", "yes", "no", "after_no"]
    assert [enums.NodeStatus.Name(run.status) for run in runs] == [
        "NODE_STATUS_SUCCESS", "NODE_STATUS_SUCCESS", "NODE_STATUS_SKIPPED", "NODE_STATUS_SKIPPED",
    ]  # fmt: skip
    assert (runs[0].port, runs[1].node_name) == ("true", "Say yes")
    skipped = await _pages(
        stack.acme,
        "ListNodeRuns",
        pb.ListNodeRunsRequest(
            execution_id=ended.id, statuses=[enums.NODE_STATUS_SKIPPED], node_ids=["no", "yes"]
        ),
        "node_runs",
    )
    assert [run.node_id for run in skipped] == ["no"]


async def test_history_is_dense_and_paged(stack: Stack, ended: Any) -> None:
    request = pb.GetExecutionHistoryRequest(execution_id=ended.id, page_size=2, exact_json=True)
    events = await _pages(stack.acme, "GetExecutionHistory", request, "events")
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].WhichOneof("event") == "execution_started"
    assert events[-1].WhichOneof("event") == "execution_ended"
    assert events[-1].execution_ended.status == enums.EXECUTION_STATUS_SUCCESS
    assert orjson.loads(events[-1].execution_ended.output_json) == {"said": "yes"}
    later = await _pages(
        stack.acme,
        "GetExecutionHistory",
        pb.GetExecutionHistoryRequest(execution_id=ended.id, after_sequence=2, view=enums.VIEW_BASIC),
        "events",
    )
    assert [event.sequence for event in later] == list(range(3, len(events) + 1))
    assert not later[-1].execution_ended.WhichOneof("output_value")


def _line(execution_id: bytes, number: int, level: int, node: int = 0) -> LogRow:
    return LogRow(
        execution_id=execution_id,
        node=node,
        node_id=f"n{node}",
        node_name=f"Node {node}",
        node_type="log",
        attempt=1,
        number=number,
        level=level,
        message=f"line {number}".encode(),
        at=1_700_000_000_000_000 + number,
        data=b'{"n": 1}',
    )


async def test_logs_are_filtered_and_paged(stack: Stack, ended: Any) -> None:
    execution_id = parse_uuid(ended.id)
    lines = [_line(execution_id, number, 1 + number % 4) for number in range(1, 9)]
    await stack.app.logs.append([*lines, _line(execution_id, 1, 4, node=1)])
    request = pb.ListExecutionLogsRequest(execution_id=ended.id, page_size=4, exact_json=True)
    listed = await _pages(stack.acme, "ListExecutionLogs", request, "logs")
    assert [line.sequence for line in listed] == list(range(1, 10))
    assert (listed[0].message, orjson.loads(listed[0].data_json)) == ("line 1", {"n": 1})
    request = pb.ListExecutionLogsRequest(
        execution_id=ended.id, min_level=enums.LOG_LEVEL_ERROR, node_id="n1"
    )
    assert [line.node_id for line in await _pages(stack.acme, "ListExecutionLogs", request, "logs")] == ["n1"]
    code, _, _ = await refusal(
        stack.acme.call("ListExecutionLogs", pb.ListExecutionLogsRequest(execution_id=ended.id, attempt=1))
    )
    assert code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("execution_id", ["", "nonsense", "0193e0c0-0000-7000-8000-00000000000"])
async def test_ids_that_are_none(stack: Stack, execution_id: str) -> None:
    code, _, details = await refusal(
        stack.acme.call("GetExecution", pb.GetExecutionRequest(execution_id=execution_id))
    )
    assert code == "INVALID_ARGUMENT"
    assert details["BadRequest"].field_violations[0].field == "execution_id"


def test_every_method_has_its_rule() -> None:
    """A new method must be added to the tests of strangers, or here when it names no execution."""
    named = {
        "GetExecution", "WaitExecution", "CancelExecution", "ListNodeRuns", "GetExecutionHistory",
        "ListExecutionLogs", "WatchExecution",
    }  # fmt: skip
    by_organization = {"StartExecution", "ListExecutions"}
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["ExecutionService"].methods}
    assert methods == named | by_organization
