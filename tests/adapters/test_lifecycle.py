"""Life of a process: drains in reverse order, duties that fail loudly or try again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from services.adapters import lifecycle
from services.adapters.lifecycle import Duty, Process

pytestmark = pytest.mark.asyncio


async def test_drain_runs_steps_in_reverse_and_survives_a_bad_one() -> None:
    process = Process("test")
    seen: list[str] = []

    def step(name: str, error: Exception | None = None) -> None:
        async def run() -> None:
            seen.append(name)
            if error is not None:
                raise error

        process.on_drain(name, run)

    step("database")
    step("bus", RuntimeError("broken"))
    step("server")
    process.stop()
    await process.until_stopped()
    assert await process.drain() == 0
    assert seen == ["server", "bus", "database"]


async def test_hanging_step_is_bounded() -> None:
    process = Process("test")
    process.on_drain("hangs", asyncio.Event().wait, timeout_s=0.01)
    assert await process.drain() == 0


async def test_a_dead_task_ends_the_process_loudly() -> None:
    process = Process("test")

    async def dies() -> None:
        raise RuntimeError("no")

    process.spawn("dies", dies())
    await asyncio.wait_for(process.until_stopped(), 5)
    assert await process.drain() == lifecycle.EXIT_FAILED


async def test_a_duty_tolerates_only_what_it_is_told_to() -> None:
    process = Process("test")
    runs = 0

    async def run_once() -> Mapping[str, int]:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ConnectionError("database restarts")
        raise RuntimeError("a bug")

    process.start(Duty("duty", run_once, 0.001, tolerated=(ConnectionError,)))
    await asyncio.wait_for(process.until_stopped(), 5)
    assert runs == 2
    assert await process.drain() == lifecycle.EXIT_FAILED


async def test_a_woken_duty_runs_at_once_and_finishes_its_run_in_a_drain() -> None:
    process = Process("test")
    started = asyncio.Queue[int]()
    may_finish = asyncio.Event()
    finished = 0

    async def run_once() -> None:
        nonlocal finished
        started.put_nowait(1)
        await may_finish.wait()
        finished += 1

    duty = Duty("duty", run_once, 3600)
    process.start(duty)
    await started.get()
    may_finish.set()
    duty.wake()
    await started.get()
    assert await process.drain() == 0
    assert finished == 2
