"""`demo` and `up` as users run them, with the real services."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import aiohttp
import grpc
import psutil
from grpc_health.v1 import health_pb2

from tests.support.stack import ROOT, clean_environment

DEMO_SECONDS = 100


def _processes_that_name(text: str) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if text in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found


async def test_the_demo_succeeds_and_leaves_nothing(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.local", "demo",
        cwd=ROOT, env={**clean_environment(), "TMPDIR": str(tmp_path)}, stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEMO_SECONDS):
            output = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.communicate()
    assert process.returncode == 0, output
    for text in (
        "SUCCESS",
        '"receipt": "R-',
        '"total": 153.5',
        "fraud",
        "RETRYING",
        "nothing is left running",
    ):
        assert text in output, output
    assert os.listdir(tmp_path) == []
    assert _processes_that_name(str(tmp_path)) == []


async def test_up_serves_what_its_description_says(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-m", "services.local", "up", "--directory", str(tmp_path), "--runner", "2",
        cwd=ROOT, env=clean_environment(), stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(DEMO_SECONDS):
            while "Everything is ready" not in (line := (await process.stdout.readline()).decode()):
                assert line, "".join(lines)
                lines.append(line)
        stack = json.loads((tmp_path / "stack.json").read_text())
        metadata = (("authorization", f"Bearer {stack['token']}"),)
        for kind in ("api", "scheduler", "runner", "runner-2", "monitor"):
            async with grpc.aio.insecure_channel(stack[kind]) as channel:
                check = channel.unary_unary(
                    "/grpc.health.v1.Health/Check",
                    request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                    response_deserializer=health_pb2.HealthCheckResponse.FromString,
                )
                answer = await check(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=10)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        async with aiohttp.ClientSession() as session:
            for url in stack["metrics"].values():
                async with session.get(url) as response:
                    assert "weconnect_" in await response.text()
    finally:
        process.send_signal(signal.SIGINT)
        rest = (await process.communicate())[0].decode()
    assert process.returncode == 0, rest
    assert _processes_that_name(str(tmp_path)) == []
    assert os.listdir(tmp_path / "postgres" / "data")
