"""`up` and `down` with services that are only processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import psycopg
import pytest

from services.adapters.clock import SystemClock
from services.adapters.tokens import TokenVerifier
from services.local.access import AUDIENCE, ISSUER
from services.local.claim import end_stack

ROOT = Path(__file__).parents[3]
SERVICES = ["api-1", "scheduler-1", "runner-1", "monitor-1"]

DRIVER = """
import asyncio, sys
from pathlib import Path
from services.local.service import KINDS
from services.local.stack import Stack
from services.local.up import Up
fake = [sys.executable, "-S", "tests/support/fake_service.py"]
stack = Stack(Path(sys.argv[1]), commands={kind: fake for kind in KINDS}, migration=[sys.executable, "-S", "-c", ""])
sys.exit(asyncio.run(Up(stack).run()))
"""


class Launcher:
    """An `up` in a process of its own, whose lines are read as they come."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, *wanted: str) -> str:
        """The next line that has every wanted text."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line)
                if all(text in line for text in wanted):
                    return line
        raise AssertionError(f"it ended without a line that has {wanted}:\n{''.join(self.lines)}")

    def end(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


class Launchers:
    """Starts launchers and ends those that a failed test leaves."""

    def __init__(self) -> None:
        self._all: list[Process] = []

    async def start(self, directory: Path, **env: str) -> Launcher:
        """Run `up` in a directory."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-u",
            "-c",
            DRIVER,
            str(directory),
            cwd=ROOT,
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, **env},
        )
        self._all.append(process)
        return Launcher(process)

    async def end(self) -> None:
        """End what still runs."""
        for process in self._all:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.fixture
async def launchers() -> AsyncIterator[Launchers]:
    """Starts launchers."""
    every = Launchers()
    yield every
    await every.end()


def _started(directory: Path) -> dict[str, psutil.Process]:
    entries = json.loads((directory / "processes.json").read_text())
    return {entry["name"]: psutil.Process(entry["pid"]) for entry in entries}


def _living(processes: dict[str, psutil.Process]) -> list[str]:
    return [
        name for name, one in processes.items() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    ]


async def test_up_describes_the_stack_restarts_what_ends_and_leaves_in_order(
    tmp_path: Path, launchers: Launchers
) -> None:
    launcher = await launchers.start(tmp_path)
    await launcher.until("Everything is ready")
    path = tmp_path / "stack.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stack = json.loads(path.read_text())
    assert list(stack) == [
        "api",
        "scheduler",
        "runner",
        "monitor",
        "nats",
        "postgres",
        "metrics",
        "token",
        "tls",
    ]
    assert list(stack["metrics"]) == ["api", "scheduler", "runner", "monitor"]
    assert stack["tls"] is False
    verifier = TokenVerifier((tmp_path / "token-public-key.pem").read_text(), ISSUER, AUDIENCE, SystemClock())
    assert verifier.verify(stack["token"]).organization_id == "local"
    async with await psycopg.AsyncConnection.connect(stack["postgres"], autocommit=True) as connection:
        await connection.execute("CREATE TABLE kept (number int)")

    first = _started(tmp_path)
    assert sorted(first) == sorted(["launcher", "postgres", "nats", *SERVICES])
    for name, word in (("runner-1", "signal 9"), ("nats", "signal 9"), ("postgres", "signal 9")):
        first[name].kill()
        await launcher.until(name, word)
        await launcher.until(name, "ready")
    second = _started(tmp_path)
    assert {name for name in first if first[name].pid != second[name].pid} == {"runner-1", "nats", "postgres"}
    async with await psycopg.AsyncConnection.connect(stack["postgres"], autocommit=True) as connection:
        await connection.execute("SELECT number FROM kept")

    launcher.end(signal.SIGINT)
    await launcher.until("postgres", "stopped")
    assert await launcher.process.wait() == 0
    assert _living(second) == []
    assert not path.exists()

    again = await launchers.start(tmp_path)
    await again.until("Everything is ready")
    url = json.loads(path.read_text())["postgres"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SELECT number FROM kept")
    again.end(signal.SIGTERM)
    assert await again.process.wait() == 0


async def test_a_second_up_is_refused_and_down_ends_the_first(tmp_path: Path, launchers: Launchers) -> None:
    first = await launchers.start(tmp_path)
    await first.until("Everything is ready")
    second = await launchers.start(tmp_path)
    assert "make down" in await second.until("a stack runs in", str(first.process.pid))
    assert await second.process.wait() == 3

    processes = _started(tmp_path)
    command = ["-m", "services.local", "down", "--directory", str(tmp_path)]
    down = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=PIPE)
    await first.process.communicate()
    assert (await down.communicate())[0] == b"ended: launcher\n"
    assert first.process.returncode == 0
    assert _living(processes) == []
    assert end_stack(tmp_path) == []


async def test_nothing_survives_a_killed_launcher(tmp_path: Path, launchers: Launchers) -> None:
    launcher = await launchers.start(tmp_path)
    await launcher.until("Everything is ready")
    processes = _started(tmp_path)
    launcher.end(signal.SIGKILL)
    await launcher.process.communicate()
    await asyncio.to_thread(psutil.wait_procs, list(processes.values()), 10)
    assert _living(processes) == []
    assert (tmp_path / "stack.json").exists()
    end_stack(tmp_path)
    assert not (tmp_path / "stack.json").exists()


async def test_down_leaves_processes_alone_that_only_have_the_id(tmp_path: Path) -> None:
    own = psutil.Process()
    entry = {"name": "api-1", "pid": own.pid, "started_at": own.create_time() - 3600}
    (tmp_path / "processes.json").write_text(json.dumps([entry]))
    assert end_stack(tmp_path) == []


async def test_a_service_that_refuses_its_settings_ends_the_start_with_its_words(
    tmp_path: Path, launchers: Launchers
) -> None:
    launcher = await launchers.start(tmp_path, FAKE_CODE="2")
    await launcher.until("ended with code 2 while starting")
    await launcher.until("this service does not like its settings")
    assert await launcher.process.wait() == 1
    assert not (tmp_path / "stack.json").exists()


async def test_a_signal_while_starting_ends_the_start(tmp_path: Path, launchers: Launchers) -> None:
    launcher = await launchers.start(tmp_path, FAKE_UNREADY="1")
    await launcher.until("monitor-1", "starting")
    processes = _started(tmp_path)
    launcher.end(signal.SIGTERM)
    await launcher.until("postgres", "stopped")
    assert await launcher.process.wait() == 0
    assert _living(processes) == []
