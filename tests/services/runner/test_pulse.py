"""The pulse goes on whatever handlers do, and says what is held."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import orjson

from services.core.tasks import Beat, Task
from services.core.units import SECOND
from tests.services.runner.rig import Rig
from weconnect import App, Context


def holds(beat: Beat, task: Task) -> bool:
    return any(held.execution_id == task.execution_id for held in beat.held)


async def test_a_start_is_told_within_100_ms_and_a_short_task_never(rig: Rig) -> None:
    go = asyncio.Event()
    app = App("a")

    @app.node("slow")
    async def slow(input: Any) -> None:
        await go.wait()

    runner = await rig.runner(app)
    short = rig.task("transform", {"value": 1})
    await rig.run(short)
    task = rig.publish(rig.task("slow"))
    beat = await rig.owner.beats.first(lambda beat: not beat.whole and holds(beat, task))
    told_after_us = rig.clock.now() - next(
        h.started_at for h in beat.held if h.execution_id == task.execution_id
    )
    # Promised are 100 ms; the machine may be busy, but a whole beat comes only after 5 s.
    assert told_after_us < SECOND
    assert beat.runner_id == runner.runner_id and beat.slots == 10
    go.set()
    await rig.owner.result_of(task)
    assert not any(holds(beat, short) for beat in rig.owner.beats)


async def test_a_whole_beat_says_everything(rig: Rig) -> None:
    go = asyncio.Event()
    began = asyncio.Event()
    app = App("a")

    @app.node("slow")
    async def slow(input: Any, ctx: Context) -> None:
        ctx.heartbeat({"at": 7})
        began.set()
        await go.wait()

    runner = await rig.runner(app)
    runner.announcement.address = "host:1"
    task = rig.publish(rig.task("slow"))
    await began.wait()
    runner.pulse.beat_soon()
    beat = await rig.owner.beats.first(lambda beat: beat.whole and holds(beat, task))
    assert beat.queues == ("default",) and beat.address == "host:1" and not beat.draining
    assert beat.node_types == ("http.request", "log", "slow", "transform")
    assert beat.slots_used == 1
    details = [
        held.heartbeat_details for beat in rig.owner.beats for held in beat.held if held.heartbeat_details
    ]
    assert [orjson.loads(one) for one in details] == [{"at": 7}]
    go.set()
    await rig.owner.result_of(task)


async def test_a_blocked_loop_keeps_beating_and_keeps_its_delivery(rig: Rig) -> None:
    """The handler holds the main loop, not the interpreter; beats, renewals and cancellations go on."""
    app = App("a")
    seen = threading.Event()
    cancelled = threading.Event()
    over = threading.Event()

    @app.node("block")
    async def block(input: Any, ctx: Context) -> str:
        # Holds the loop until another thread has seen a beat that tells of this very attempt.
        if not over.wait(30):
            return "no beat came"
        if ctx.wait_cancelled(30):
            cancelled.set()
        return "done"

    runner = await rig.runner(app)
    task = rig.task("block")

    def watch() -> None:
        """A thread with its own loop, since the one of the test is blocked with the runner's."""

        async def wait_for_beat() -> None:
            other = Rig(rig.url)
            await other.open()
            other.owner.answers_results = False
            seen.set()
            await other.owner.beats.first(lambda beat: holds(beat, task))
            whole_before = sum(beat.whole for beat in other.owner.beats)
            await other.owner.beats.first(lambda beat: beat.whole and holds(beat, task), after=whole_before)
            over.set()
            other.owner.control(runner.runner_id, task)
            await other.owner.bus.flush()
            await other.close()

        asyncio.run(wait_for_beat())

    thread = threading.Thread(target=watch)
    thread.start()
    await asyncio.to_thread(seen.wait, 10)
    result = await rig.run(task)
    await asyncio.to_thread(thread.join, 30)
    assert result.output == b'"done"' or result.failure is not None
    assert cancelled.is_set()
    await rig.emptied()
    assert not rig.owner.asks, "the delivery was renewed, so it was not delivered again"


async def test_a_thread_that_computes_does_not_stop_the_pulse(rig: Rig) -> None:
    app = App("a")
    stop = threading.Event()

    @app.node("compute")
    def compute(input: Any) -> int:
        count = 0
        while not stop.is_set():
            count += 1
        return 1

    await rig.runner(app)
    task = rig.publish(rig.task("compute"))
    await rig.owner.beats.first(lambda beat: holds(beat, task))
    began = time.monotonic()
    whole = await rig.owner.beats.first(lambda beat: beat.whole and holds(beat, task))
    assert whole.held[0].started_at and time.monotonic() - began < 10
    stop.set()
    assert (await rig.owner.result_of(task)).output == b"1"


async def test_owners_tell_the_time(rig: Rig) -> None:
    runner = await rig.runner()
    await rig.owner.beats.first(lambda beat: beat.runner_id == runner.runner_id)
    rig.owner.control(runner.runner_id, now=rig.clock.now() + 5_000_000)
    async with asyncio.timeout(10):
        while rig.clock.offset_us < 4_000_000:
            await rig.owner.bus.flush()
