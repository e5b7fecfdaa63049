"""Lines reach the owner before the result does, in order, within bounds."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import orjson

from services.core.tasks import LOG_ATTEMPT_BYTES_MAX, LOG_CHUNK_BYTES_MAX, LOG_LINE_BYTES_MAX, LogLine
from tests.services.runner.rig import Rig
from weconnect import App, Context


def lines_of(rig: Rig) -> list[LogLine]:
    return [line for chunk in rig.owner.chunks for line in chunk.lines]


async def test_a_result_leaves_after_its_lines_are_confirmed(rig: Rig) -> None:
    rig.owner.confirms_logs = False
    await rig.runner()
    task = rig.publish(rig.task("log", {"message": "hello", "level": "WARN", "data": {"a": 1}}))
    await rig.owner.chunks.first()
    # Nobody confirms: the lines come again, the result does not come.
    again = await rig.owner.chunks.at_least(2)
    assert again[0] == again[1] and not rig.owner.results
    rig.owner.confirms_logs = True
    result = await rig.owner.result_of(task)
    assert result.output == b"null"
    line = lines_of(rig)[0]
    assert (line.number, line.level, line.message, orjson.loads(line.data)) == (1, 3, b"hello", {"a": 1})
    assert result.started_at <= line.at <= result.ended_at
    assert rig.owner.order.index("result") > rig.owner.order.index("log")
    await rig.emptied()


async def test_lines_of_a_running_handler_leave_while_it_runs(rig: Rig) -> None:
    app = App("a")
    go = asyncio.Event()

    @app.node("chatty")
    async def chatty(input: Any, ctx: Context) -> None:
        ctx.log.info("one", n=1)
        ctx.log("two")
        await go.wait()
        ctx.log.error("three")

    await rig.runner(app)
    task = rig.publish(rig.task("chatty"))
    first = await rig.owner.chunks.first()
    assert [line.message for line in first.lines] == [b"one", b"two"]
    assert not rig.owner.results
    go.set()
    await rig.owner.result_of(task)
    assert [(line.number, line.message, line.level) for line in lines_of(rig)] == [
        (1, b"one", 2), (2, b"two", 2), (3, b"three", 4),
    ]  # fmt: skip


async def test_lines_come_from_threads_dense_and_in_order(rig: Rig) -> None:
    app = App("a")

    @app.node("chatty")
    def chatty(input: Any, ctx: Context) -> None:
        def write(name: str) -> None:
            for number in range(200):
                ctx.log(f"{name} {number}")

        threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    await rig.runner(app)
    await rig.run(rig.task("chatty"))
    lines = lines_of(rig)
    assert [line.number for line in lines] == list(range(1, 601))
    for name in "abc":
        own = [line.message.decode() for line in lines if line.message.decode().startswith(name)]
        assert own == [f"{name} {number}" for number in range(200)]


async def test_long_lines_and_long_logs_are_cut_visibly(rig: Rig) -> None:
    app = App("a")

    @app.node("chatty")
    def chatty(input: Any, ctx: Context) -> str:
        ctx.log.info("x" * 100_000)
        ctx.log.info("data", big="y" * 100_000)
        ctx.log.info("not json", it=object)
        for _ in range(2 * LOG_ATTEMPT_BYTES_MAX // 30_000):
            ctx.log.info("z" * 30_000)
        return "done"

    await rig.runner(app)
    result = await rig.run(rig.task("chatty"))
    assert result.output == b'"done"'
    lines = lines_of(rig)
    assert len(lines[0].message) <= LOG_LINE_BYTES_MAX and lines[0].message.endswith(b"[cut: 100000 bytes]")
    assert b"are over" in lines[1].data and lines[1].message == b"data"
    assert sum(len(line.message) + len(line.data) for line in lines) <= LOG_ATTEMPT_BYTES_MAX
    assert lines[-1].message.startswith(b"log cut") and lines[-1].level == 3
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(
        sum(len(line.message) + len(line.data) for line in chunk.lines) <= LOG_CHUNK_BYTES_MAX
        for chunk in rig.owner.chunks
    )


async def test_lines_after_the_end_are_dropped(rig: Rig) -> None:
    app = App("a")
    kept: list[Context] = []

    @app.node("chatty")
    async def chatty(input: Any, ctx: Context) -> None:
        kept.append(ctx)
        ctx.log("in time")

    await rig.runner(app)
    await rig.run(rig.task("chatty"))
    await rig.emptied()
    kept[0].log("too late")
    await rig.run(rig.task("transform", {"value": 1}))
    assert [line.message for line in lines_of(rig)] == [b"in time"]
