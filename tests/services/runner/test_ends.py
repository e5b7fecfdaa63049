"""How attempts end that do not simply return: cancellation, timeouts, drains."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import orjson
import pytest

from services.core.units import MILLISECOND
from services.runner import attempts
from services.runner.drain import seconds_max
from tests.services.runner.rig import Rig
from weconnect import App, Context


async def test_an_async_handler_is_cancelled_and_may_clean_up(rig: Rig) -> None:
    app = App("a")
    began = asyncio.Event()
    cleaned = asyncio.Event()

    @app.node("slow")
    async def slow(input: Any, ctx: Context) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            assert ctx.cancelled
            cleaned.set()

    runner = await rig.runner(app)
    task = rig.publish(rig.task("slow"))
    await began.wait()
    rig.owner.control(runner.runner_id, task)
    result = await rig.owner.result_of(task)
    assert cleaned.is_set()
    assert result.failure is not None and result.failure.type == "CANCELLED" and not result.failure.retryable
    await rig.emptied()
    assert runner.held.running == 0


async def test_a_sync_handler_sees_the_flag(rig: Rig) -> None:
    app = App("a")
    began = threading.Event()

    @app.node("slow")
    def slow(input: Any, ctx: Context) -> str:
        began.set()
        ctx.wait_cancelled(30)
        ctx.raise_if_cancelled()
        return "never"

    runner = await rig.runner(app)
    task = rig.publish(rig.task("slow"))
    await asyncio.to_thread(began.wait, 10)
    rig.owner.control(runner.runner_id, task)
    result = await rig.owner.result_of(task)
    assert result.failure is not None and result.failure.type == "CANCELLED"


async def test_a_deaf_handler_is_abandoned_after_the_grace_and_keeps_its_slot(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "CANCEL_GRACE_US", 50 * MILLISECOND)
    app = App("a")
    began = threading.Event()
    go = threading.Event()

    @app.node("deaf")
    def deaf(input: Any) -> str:
        began.set()
        go.wait(30)
        return "late"

    runner = await rig.runner(app, slots=1)
    task = rig.publish(rig.task("deaf"))
    await asyncio.to_thread(began.wait, 10)
    rig.owner.control(runner.runner_id, task)
    result = await rig.owner.result_of(task)
    assert result.failure is not None and result.failure.type == "CANCELLED"
    assert "abandoned" in result.failure.message
    await rig.emptied()
    assert runner.held.running == 1 and runner.held.abandoned == 1
    after = rig.publish(rig.task("transform", {"value": 1}))
    go.set()
    await rig.owner.result_of(after)
    await rig.emptied()
    assert runner.held.running == 0 and runner.held.abandoned == 0
    assert len([r for r in rig.owner.results if r.execution_id == task.execution_id]) == 1


async def test_a_task_that_has_not_begun_is_cancelled_at_once(rig: Rig) -> None:
    rig.owner.answers_asks = None
    runner = await rig.runner()
    task = rig.publish(rig.task("transform", {"value": 1}, publication=2))
    await rig.owner.asks.first()
    rig.owner.control(runner.runner_id, task)
    result = await rig.owner.result_of(task)
    assert result.failure is not None and result.failure.type == "CANCELLED" and result.started_at == 0
    await rig.emptied()
    assert len(runner.intake.asks) == 0


async def test_cancelling_what_is_not_here_changes_nothing(rig: Rig) -> None:
    runner = await rig.runner()
    rig.owner.control(runner.runner_id, rig.task("transform"))
    assert (await rig.run(rig.task("transform", {"value": 1}))).output == b"1"


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_start_to_close_ends_an_attempt(rig: Rig, kind: str) -> None:
    app = App("a")
    told = threading.Event()
    if kind == "async":

        @app.node("slow")
        async def slow(input: Any, ctx: Context) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                told.set()
    else:

        @app.node("slow")
        def slow_sync(input: Any, ctx: Context) -> None:
            if ctx.wait_cancelled(30):
                told.set()

    runner = await rig.runner(app)
    result = await rig.run(rig.task("slow", start_to_close_us=50 * MILLISECOND))
    failure = result.failure
    assert failure is not None and failure.type == "TIMEOUT" and failure.retryable
    assert orjson.loads(failure.details)["timeout"] == "start_to_close"
    assert await asyncio.to_thread(told.wait, 10)
    await runner.held.until(runner.held.all_settled)


async def test_silence_ends_an_attempt_and_heartbeats_keep_it(rig: Rig) -> None:
    app = App("a")

    @app.node("alive")
    def alive(input: Any, ctx: Context) -> str:
        for step in range(6):
            ctx.heartbeat({"step": step})
            ctx.wait_cancelled(0.05)
        return "done"

    @app.node("silent")
    async def silent(input: Any, ctx: Context) -> None:
        ctx.heartbeat({"step": 1})
        await asyncio.Event().wait()

    await rig.runner(app)
    alive_task = rig.publish(rig.task("alive", heartbeat_us=200 * MILLISECOND))
    failure = (await rig.run(rig.task("silent", heartbeat_us=60 * MILLISECOND))).failure
    assert failure is not None and failure.type == "TIMEOUT"
    assert orjson.loads(failure.details)["timeout"] == "heartbeat"
    assert (await rig.owner.result_of(alive_task)).output == b'"done"'


async def test_what_the_attempt_before_said_is_found(rig: Rig) -> None:
    app = App("a")

    @app.node("resume")
    async def resume(input: Any, ctx: Context) -> Any:
        return {"from": ctx.heartbeat_details, "attempt": ctx.attempt}

    await rig.runner(app)
    result = await rig.run(rig.task("resume", attempt=2, heartbeat_details=b'{"step":4}'))
    assert orjson.loads(result.output or b"") == {"from": {"step": 4}, "attempt": 2}


async def test_a_drain_finishes_what_runs_and_gives_back_the_rest(rig: Rig) -> None:
    app = App("a")
    began = asyncio.Event()
    go = asyncio.Event()

    @app.node("slow")
    async def slow(input: Any) -> str:
        began.set()
        await go.wait()
        return "finished"

    runner = await rig.runner(app, slots=4)
    running = rig.publish(rig.task("slow"))
    await began.wait()
    rig.owner.answers_asks = None
    asked = rig.publish(rig.task("transform", {"value": 1}, publication=2))
    await rig.owner.asks.first()
    draining = asyncio.create_task(runner.drain())
    await rig.owner.beats.first(lambda beat: beat.draining)
    go.set()
    counts = await draining
    assert counts == {"waiting": 1, "finished": 1, "returned": 0}
    assert (await rig.owner.result_of(running)).output == b'"finished"'
    assert not runner.held.by_key
    rig.owner.answers_asks = True
    await rig.runner(app)
    assert (await rig.owner.result_of(asked)).output == b"1"
    await rig.emptied()


async def test_a_drain_returns_what_does_not_finish(rig: Rig) -> None:
    app = App("a")
    began = asyncio.Event()

    @app.node("slow")
    async def slow(input: Any) -> None:
        began.set()
        await asyncio.Event().wait()

    runner = await rig.runner(app, drain_s=0.05)
    task = rig.publish(rig.task("slow"))
    await began.wait()
    counts = await runner.drain()
    assert counts == {"waiting": 0, "finished": 0, "returned": 1}
    result = await rig.owner.result_of(task)
    assert result.returned and result.output is None and result.failure is None
    assert len(rig.owner.results) == 1
    await rig.emptied()


async def test_a_drain_waits_for_verdicts_only_so_long(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.runner.drain.SETTLE_SECONDS", 0.05)
    rig.owner.answers_results = False
    runner = await rig.runner()
    await rig.run(rig.task("transform", {"value": 1}))
    await runner.drain()
    assert len(runner.held.by_key) == 1
    assert seconds_max(1.0) > 1.0


async def test_sampled_attempts_know_their_cost(rig: Rig) -> None:
    app = App("a")

    @app.node("thread")
    def thread(input: Any) -> int:
        return sum(range(200_000))

    @app.node("async")
    async def coroutine(input: Any) -> int:
        await asyncio.to_thread(int)
        return sum(range(200_000))

    await rig.runner(app)
    for type in ("thread", "async"):
        sampled = await rig.run(rig.task(type, sampled=True))
        assert sampled.cpu_seconds > 0 and sampled.memory_bytes > 1_000_000
        plain = await rig.run(rig.task(type))
        assert plain.cpu_seconds == 0 and plain.memory_bytes == 0
        assert sampled.output == plain.output
