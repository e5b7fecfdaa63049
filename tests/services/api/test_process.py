"""`python -m services.api` as a process: configuration, readiness, metrics, and a drain that answers who waits."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp
import grpc

from services.local.ports import free_port
from tests.services.api.conftest import KEYS, Client, Stack, refusal
from weconnect.executions.v1 import enums_pb2 as enums
from weconnect.executions.v1 import execution_service_pb2 as pb

ROOT = Path(__file__).parents[3]


async def _api(**environment: str) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WECONNECT_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.api",
        cwd=ROOT,
        env={**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}", **environment},
        stderr=asyncio.subprocess.PIPE,
    )


async def test_all_mistakes_are_reported_at_once() -> None:
    process = await _api(WECONNECT_GRPC_ADDRESS="nowhere", EXECUTION_MAX_TIMEOUT="soon", REDIS_HOST="r")
    _, stderr = await process.communicate()
    assert process.returncode == 2
    for name in (
        b"WECONNECT_DATABASE_URL",
        b"WECONNECT_GRPC_ADDRESS",
        b"EXECUTION_MAX_TIMEOUT",
        b"TOKEN_PUBLIC_KEY",
    ):
        assert name in stderr


async def test_a_drain_answers_who_waits_and_ends_with_0(stack: Stack) -> None:
    await stack.acme.create(
        name="long", nodes=[{"id": "a", "type": "delay", "parameters": {"duration": "1h"}}]
    )
    grpc_port, http_port = free_port(), free_port()
    process = await _api(
        WECONNECT_DATABASE_URL=stack.database_url,
        WECONNECT_NATS_URL=stack.nats_url,
        WECONNECT_TOKEN_PUBLIC_KEY=KEYS.public_key,
        WECONNECT_GRPC_ADDRESS=f"127.0.0.1:{grpc_port}",
        WECONNECT_HTTP_ADDRESS=f"127.0.0.1:{http_port}",
    )
    assert process.stderr is not None
    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        while b'"event":"started"' not in (await asyncio.wait_for(process.stderr.readline(), 30)):
            pass
        client = Client(channel, "acme")
        async with aiohttp.ClientSession(f"http://127.0.0.1:{http_port}") as http:
            assert (await http.get("/readyz")).status == 200
            assert (await http.get("/healthz")).status == 200
            metrics = await (await http.get("/metrics")).text()
            assert "weconnect_build_info" in metrics
        execution = (await client.start("long")).execution
        watch = client.call("WatchExecution", pb.WatchExecutionRequest(execution_id=execution.id))
        await watch.read()
        wait = asyncio.ensure_future(
            client.call("WaitExecution", pb.WaitExecutionRequest(execution_id=execution.id))
        )
        while (await client.call("GetApiStatus", _status())).watched_executions < 2:
            pass
        process.send_signal(signal.SIGTERM)
        assert (await wait).execution.status in (
            enums.EXECUTION_STATUS_RUNNING,
            enums.EXECUTION_STATUS_PENDING,
        )
        code, info, details = await refusal(_end_of(watch))
        assert (code, info.reason) == ("UNAVAILABLE", "DRAINING")
        assert "RetryInfo" in details
    _, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()


def _status() -> object:
    from weconnect.executions.v1 import api_service_pb2

    return api_service_pb2.GetApiStatusRequest()


async def _end_of(watch: object) -> None:
    while await watch.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
        pass
