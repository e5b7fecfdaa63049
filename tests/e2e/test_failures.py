"""Retries, timeouts, failure edges: who waits for what, and what the client is told."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from tests.support.client import Client, node_statuses, status_of
from tests.support.waiting import until
from weconnect.executions.v1.enums_pb2 import NODE_STATUS_SCHEDULED, WAITING_FOR_RUNNER

Plain = dict[str, Any]
FAST = {"max_attempts": 3, "backoff": "FIXED", "base_delay": "50ms", "jitter": 0}


def _one(name: str, kind: str, parameters: Plain, **more: Any) -> Plain:
    return {"name": name, "nodes": [{"id": "a", "type": kind, "parameters": parameters, **more}], "edges": []}


async def test_a_retry_keeps_its_idempotency_key(client: Client, stack: Any) -> None:
    definition = _one("flaky", "test.flaky", {"failures": 2, "value": 1}, retry_policy=FAST)
    ended = await client.run(definition, {})
    assert status_of(ended) == "SUCCESS"
    effects = [effect for effect in stack.ledger.effects() if effect.execution == ended.id]
    assert [effect.attempt for effect in effects] == [1, 2, 3]
    assert len({effect.key for effect in effects}) == 1
    run = (await client.node_runs(ended.id))["a"]
    assert [attempt.error.type for attempt in run.attempts] == ["FLAKY", "FLAKY", ""]
    assert all(attempt.retry_delay.ToMilliseconds() == 50 for attempt in run.attempts[:2])


async def test_the_error_of_a_failed_execution_says_where_and_why(client: Client) -> None:
    definition = _one("broken", "test.failing", {"type": "BROKEN", "message": "no good"}, retry_policy=FAST)
    ended = await client.run(definition, {})
    assert status_of(ended) == "FAILED"
    assert "no good" in ended.error.message
    info = error_details_pb2.ErrorInfo()
    assert ended.error.details[0].Unpack(info)
    assert info.domain == "executions.weconnect"
    said = dict(info.metadata)
    assert said["executionId"] == ended.id
    assert said["failedNodeId"] == "a"
    assert (said["retryCount"], said["maxRetries"]) == ("2", "2")


async def test_what_is_not_retryable_is_not_retried(client: Client) -> None:
    definition = _one("final", "test.failing", {"type": "X", "retryable": False}, retry_policy=FAST)
    ended = await client.run(definition, {})
    assert (await client.node_runs(ended.id))["a"].attempt == 1


async def test_start_to_close_ends_an_attempt(client: Client) -> None:
    definition = {
        "name": "slow-attempt",
        "nodes": [
            {"id": "a", "type": "test.busy", "parameters": {"seconds": 30},
             "timeouts": {"start_to_close": "300ms"}, "retry_policy": {**FAST, "max_attempts": 2}},
            {"id": "b", "type": "noop"},
        ],
        "edges": [{"source": "a", "target": "b", "port": "timeout"}],
    }  # fmt: skip
    ended = await client.run(definition, {})
    assert status_of(ended) == "SUCCESS"
    run = (await client.node_runs(ended.id))["a"]
    assert (run.attempt, run.error.type, run.error.timeout) == (2, "TIMEOUT", "start_to_close")
    assert await node_statuses(client, ended.id) == {"a": "TIMEOUT", "b": "SUCCESS"}


async def test_an_execution_outlives_no_timeout(client: Client) -> None:
    definition = {**_one("late", "delay", {"duration": "60s"}), "timeout": "1s"}
    ended = await client.run(definition, {})
    assert status_of(ended) == "TIMEOUT"
    assert 1_000 <= ended.duration_ms < 5_000


async def test_an_error_edge_handles_its_types_only(client: Client) -> None:
    definition = {
        "name": "handled",
        "nodes": [
            {
                "id": "a",
                "type": "test.failing",
                "parameters": {"type": "RATE"},
                "retry_policy": {"max_attempts": 1},
            },
            {"id": "other", "type": "noop"},
            {"id": "rate", "type": "set", "parameters": {"vars": {"why": "${ nodes.a.error.type }"}}},
        ],
        "edges": [
            {"source": "a", "target": "other", "port": "error", "error_types": ["ELSE"]},
            {"source": "a", "target": "rate", "port": "error", "error_types": ["RATE"]},
        ],
        "output": {"why": "${ vars.why }"},
    }
    ended = await client.run(definition, {})
    assert (status_of(ended), MessageToDict(ended.output)) == ("SUCCESS", {"why": "RATE"})
    assert (await node_statuses(client, ended.id))["other"] == "SKIPPED"


async def test_a_type_nobody_announced_waits_and_says_for_whom(client: Client) -> None:
    created = await client.create(_one("strange", "nobody.knows", {}))
    execution = await client.start(created.name, {})

    async def waiting() -> bool:
        answer = await client.get(execution.id)
        return any(node.status == NODE_STATUS_SCHEDULED for node in answer.progress.open_nodes)

    await until(waiting, "the node waits")
    (node,) = (await client.get(execution.id)).progress.open_nodes
    assert (node.node_id, node.waiting_for) == ("a", WAITING_FOR_RUNNER)
    run = (await client.node_runs(execution.id))["a"]
    assert (run.waiting_for, run.node_type) == (WAITING_FOR_RUNNER, "nobody.knows")
    await client.cancel(execution.id, force=True)
    assert status_of(await client.ended(execution)) == "CANCELLED"
