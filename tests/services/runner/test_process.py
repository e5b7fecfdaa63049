"""The runner as a process: its configuration, its servers, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest
import pytest_asyncio

from services.adapters.config import ConfigurationError, Environment
from services.adapters.tokens import Identity, KeyPair, mint_for, new_key_pair
from services.core.tasks import Beat
from services.local.ports import free_port
from services.runner.apps import load_apps
from services.runner.config import read_settings
from services.runner.handlers import HandlerError, Handlers
from tests.services.runner.rig import PATIENCE_SECONDS, Rig
from weconnect import App
from weconnect.runner.v1 import runner_service_pb2 as pb
from weconnect.runner.v1 import runner_service_pb2_grpc as rpc

ROOT = Path(__file__).parents[3]
APP = "tests.services.runner.handlers_app:app"


def environment(keys: KeyPair, **variables: str) -> dict[str, str]:
    return {
        "WECONNECT_TOKEN_PUBLIC_KEY": keys.public_key,
        "WECONNECT_GRPC_ADDRESS": "127.0.0.1:0",
        "WECONNECT_HTTP_ADDRESS": "127.0.0.1:0",
        **variables,
    }


class Processes:
    """Runner processes of one test; what still runs at its end is killed."""

    def __init__(self) -> None:
        self.keys = new_key_pair()
        self._started: list[asyncio.subprocess.Process] = []

    async def start(self, **variables: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.runner", cwd=ROOT, stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}", **environment(self.keys, **variables)},
        )  # fmt: skip
        self._started.append(process)
        return process

    async def end(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest_asyncio.fixture(loop_scope="session")
async def processes() -> AsyncIterator[Processes]:
    processes = Processes()
    yield processes
    await processes.end()


async def test_mistakes_are_reported_together(processes: Processes) -> None:
    process = await processes.start(
        WECONNECT_APPS="tests.services.runner.broken_app:app,nowhere:app,justaname,"
        "tests.services.runner.handlers_app:not_an_app,tests.services.runner.handlers_app:missing",
        WECONNECT_RUNNER_SLOTS="0",
        WECONNECT_TASK_QUEUES="a b",
        WECONNECT_HTTP_ALLOW="everything",
    )
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 2
    text = errors.decode()
    for word in (
        "broken_app:app", "this app is broken", "nowhere:app", "'justaname'", "is a int", "has no 'missing'",
        "WECONNECT_RUNNER_SLOTS", "WECONNECT_TASK_QUEUES", "WECONNECT_HTTP_ALLOW",
    ):  # fmt: skip
        assert word in text, text


async def served_over_grpc(beat: Beat, keys: KeyPair, now: int) -> None:
    """The status and the node types of a runner that runs one `wait.for.pipe` and has run one `echo`."""
    async with grpc.aio.insecure_channel(beat.address) as channel:
        stub = rpc.RunnerServiceStub(channel)
        token = mint_for(
            keys.private_key, Identity("org", "user"), issuer="weconnect", audience="weconnect.executions",
            now=now,
        )  # fmt: skip
        metadata = (("authorization", f"Bearer {token}"),)
        status = await stub.GetRunnerStatus(pb.GetRunnerStatusRequest(), metadata=metadata)
        assert status.runner_id == beat.runner_id and status.slots == 100 and status.slots_used == 1
        assert [attempt.node_type for attempt in status.active_attempts] == ["wait.for.pipe"]
        assert status.attempts_succeeded == 1 and status.nats_connected and not status.draining
        page = await stub.ListNodeTypes(pb.ListNodeTypesRequest(page_size=2), metadata=metadata)
        assert [kind.name for kind in page.node_types] == ["echo", "http.request"]
        assert page.node_types[0].handler == "tests.services.runner.handlers_app:echo"
        assert page.node_types[0].description == "Return the input." and not page.node_types[0].builtin
        rest = await stub.ListNodeTypes(
            pb.ListNodeTypesRequest(page_token=page.next_page_token), metadata=metadata
        )
        assert [kind.name for kind in rest.node_types] == ["log", "transform", "wait.for.pipe"]
        assert rest.node_types[0].builtin and not rest.next_page_token
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ListNodeTypes(pb.ListNodeTypesRequest(page_size=1000), metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetRunnerStatus(pb.GetRunnerStatusRequest())


async def served_to_operators(port: int) -> None:
    """Ready, and metrics that say the same."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert answer.status == 200
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            text = await answer.text()
    assert 'weconnect_runner_attempts_total{node_type="echo",outcome="success"} 1.0' in text
    assert 'weconnect_runner_slots{state="running"} 1.0' in text


async def test_it_serves_runs_and_drains(rig: Rig, processes: Processes, tmp_path: Path) -> None:
    port = free_port()
    process = await processes.start(
        WECONNECT_NATS_URL=rig.url, WECONNECT_APPS=APP, WECONNECT_HTTP_ADDRESS=f"127.0.0.1:{port}"
    )
    beat = await rig.owner.beats.first(lambda beat: beat.whole)
    assert beat.node_types == ("echo", "http.request", "log", "transform", "wait.for.pipe")
    assert (await rig.run(rig.task("echo", {"a": 1}))).output == b'{"a":1}'
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    task = rig.publish(rig.task("wait.for.pipe", {"pipe": str(pipe)}))
    await rig.owner.chunks.first()

    await served_over_grpc(beat, processes.keys, rig.clock.now())
    await served_to_operators(port)

    process.send_signal(signal.SIGTERM)
    await rig.owner.beats.first(lambda beat: beat.draining)
    await asyncio.to_thread(pipe.write_text, "done")
    assert (await rig.owner.result_of(task)).output == b'"done"'
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 0, errors.decode()
    await rig.emptied()


async def test_a_second_signal_ends_it_at_once(rig: Rig, processes: Processes, tmp_path: Path) -> None:
    process = await processes.start(WECONNECT_NATS_URL=rig.url, WECONNECT_APPS=APP)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    rig.publish(rig.task("wait.for.pipe", {"pipe": str(pipe)}))
    await rig.owner.chunks.first()
    process.send_signal(signal.SIGTERM)
    await rig.owner.beats.first(lambda beat: beat.draining)
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM


def test_an_app_is_loaded_once() -> None:
    apps, problems = load_apps([APP, APP])
    assert [app.name for app in apps] == ["tests"] and not problems


def test_two_handlers_for_a_type_are_refused() -> None:
    first, second = App("first"), App("second")
    first.node("x")(lambda input: None)
    second.node("x")(lambda input: None)
    handlers = Handlers()
    handlers.add(first)
    with pytest.raises(HandlerError, match=r"'second'.*'first'.*'x'"):
        handlers.add(second)


def test_settings_have_defaults() -> None:
    env = Environment(environment(new_key_pair()))
    settings = read_settings(env)
    env.finish()
    assert (settings.slots, settings.queues, settings.drain_s) == (100, ("default",), 30.0)


def test_two_apps_with_one_type_are_a_mistake_of_the_configuration() -> None:
    variables = environment(new_key_pair(), WECONNECT_APPS=f"{APP},tests.services.runner.doubling_app:app")
    env = Environment(variables)
    read_settings(env)
    with pytest.raises(ConfigurationError, match="'echo'"):
        env.finish()
