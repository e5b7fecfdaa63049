"""From delivery to acknowledgement: what runs at once, what is asked about, and what a verdict settles."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson

from services.core.units import SECOND
from services.runner.held import HELD_PER_SLOT_MAX
from tests.services.runner.rig import Rig
from weconnect import App, Context


async def test_a_fresh_task_runs_at_once_and_is_acknowledged_after_its_verdict(rig: Rig) -> None:
    rig.owner.answers_results = False
    runner = await rig.runner()
    task = rig.task("transform", {"value": {"who": "${ input.who }"}}, {"input": {"who": "you"}})
    result = await rig.run(task)
    assert orjson.loads(result.output or b"") == {"who": "you"}
    assert result.attempt == 1 and result.node == 3 and result.started_at <= result.ended_at
    assert await rig.unacknowledged() == 1
    rig.owner.settle(runner.runner_id, result.token)
    await rig.emptied()
    assert not rig.owner.asks and not runner.held.by_key


async def test_results_of_one_turn_travel_together(rig: Rig) -> None:
    await rig.runner(slots=50)
    first = rig.task("transform", {"value": 1})
    tasks = [replace(first, node=node) for node in range(20)]
    for task in tasks:
        rig.publish(task, publication_id=f"m{task.node}")
    results = await rig.owner.results.at_least(20)
    assert {result.node for result in results} == set(range(20))
    assert rig.owner.order.count("result") < 20
    await rig.emptied()


async def test_a_lost_verdict_is_asked_for_by_repeating_the_result(rig: Rig) -> None:
    rig.owner.answers_results = False
    runner = await rig.runner()
    first = await rig.run(rig.task("transform", {"value": 1}))
    results = await rig.owner.results.at_least(3)
    assert all(result == first for result in results)
    assert await rig.unacknowledged() == 1
    rig.owner.settle(runner.runner_id, first.token, counted=False)
    await rig.emptied()


async def test_a_doubled_verdict_and_foreign_tokens_change_nothing(rig: Rig) -> None:
    rig.owner.answers_results = False
    runner = await rig.runner()
    result = await rig.run(rig.task("transform", {"value": 1}))
    rig.owner.settle(runner.runner_id, 999_999, result.token, result.token)
    await rig.emptied()
    assert orjson.loads((await rig.run(rig.task("transform", {"value": 2}))).output or b"") == 2


async def test_a_republished_task_waits_for_its_owner(rig: Rig) -> None:
    rig.owner.answers_asks = None
    await rig.runner()
    task = rig.publish(rig.task("transform", {"value": 1}, publication=2))
    asks = await rig.owner.asks.at_least(3)
    assert {ask.token for ask in asks} == {asks[0].token}
    assert not rig.owner.results
    rig.owner.answer(asks[0], run=True)
    assert (await rig.owner.result_of(task)).output == b"1"
    await rig.emptied()


async def test_a_stale_task_is_dropped_when_its_owner_says_so(rig: Rig) -> None:
    rig.owner.answers_asks = False
    await rig.runner()
    rig.publish(rig.task("transform", {"value": 1}, published_at=rig.clock.now() - 6 * SECOND))
    await rig.owner.asks.first()
    await rig.emptied()
    assert not rig.owner.results


async def test_a_task_from_the_future_is_asked_about(rig: Rig) -> None:
    await rig.runner()
    task = rig.task("transform", {"value": 1}, published_at=rig.clock.now() + 60 * SECOND)
    await rig.run(task)
    assert len(rig.owner.asks) == 1


async def test_freshness_is_judged_in_database_time(rig: Rig) -> None:
    runner = await rig.runner()
    await rig.owner.beats.first(lambda beat: beat.runner_id == runner.runner_id)
    ahead_us = 3600 * SECOND
    rig.owner.control(runner.runner_id, now=rig.clock.now() + ahead_us)
    mark = rig.task("transform", {"value": 1})
    async with asyncio.timeout(10):
        while rig.clock.offset_us < ahead_us / 2:
            await rig.run(replace(mark, node=mark.node + 1))
            mark = rig.task("transform", {"value": 1})
    asked = len(rig.owner.asks)
    result = await rig.run(rig.task("transform", {"value": 1}))
    assert len(rig.owner.asks) == asked
    assert abs(result.started_at - rig.clock.now()) < 60 * SECOND


async def test_a_doubled_delivery_runs_once_and_both_are_acknowledged(rig: Rig) -> None:
    began = asyncio.Event()
    go = asyncio.Event()
    app = App("a")
    runs = 0

    @app.node("slow")
    async def slow(input: Any, ctx: Context) -> int:
        nonlocal runs
        runs += 1
        began.set()
        await go.wait()
        return runs

    runner = await rig.runner(app)
    task = rig.publish(rig.task("slow"), publication_id="one")
    await began.wait()
    rig.publish(task, publication_id="two")
    key = (task.execution_id, task.node, task.attempt)
    async with asyncio.timeout(10):
        while len(runner.held.by_key[key].deliveries) < 2:
            await rig.publisher.stream_state()
    go.set()
    result = await rig.owner.result_of(task)
    assert result.output == b"1"
    await rig.emptied()
    assert runs == 1


async def test_a_double_that_comes_after_the_end_is_asked_about(rig: Rig) -> None:
    await rig.runner()
    rig.owner.answers_asks = False
    task = rig.task("transform", {"value": 1})
    await rig.run(task)
    await rig.emptied()
    rig.publish(task, publication_id="again")
    await rig.owner.asks.first()
    await rig.emptied()
    assert len(rig.owner.results) == 1


async def test_never_more_tasks_in_hand_than_slots(rig: Rig) -> None:
    go = asyncio.Event()
    three = asyncio.Event()
    running = 0
    most = 0
    app = App("a")

    @app.node("slow")
    async def slow(input: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            three.set()
        await go.wait()
        running -= 1

    runner = await rig.runner(app, slots=3)
    for node in range(12):
        rig.publish(rig.task("slow", node=node))
    await three.wait()
    await rig.confirmed.at_least(12)
    assert (await rig.publisher.consumer_state("default")).unacknowledged <= 3
    go.set()
    await rig.owner.results.at_least(12)
    assert most == 3
    await rig.emptied()
    assert runner.held.running == 0


async def test_a_heavy_task_waits_for_its_slots(rig: Rig) -> None:
    go = asyncio.Event()
    order: list[str] = []
    both = asyncio.Event()
    app = App("a")

    @app.node("slow")
    async def slow(input: str) -> None:
        order.append(input)
        if len(order) == 2:
            both.set()
        await go.wait()

    await rig.runner(app, slots=3)
    rig.publish(rig.task("slow", "a"))
    rig.publish(rig.task("slow", "b"))
    await both.wait()
    heavy = rig.publish(rig.task("slow", "heavy", slots=3))
    await rig.confirmed.at_least(3)
    assert order == ["a", "b"]
    go.set()
    await rig.owner.result_of(heavy)
    assert order == ["a", "b", "heavy"]
    await rig.emptied()


async def test_a_type_without_handler_goes_back(rig: Rig) -> None:
    runner = await rig.runner()
    rig.publish(rig.task("nobody.knows"))
    async with asyncio.timeout(10):
        while not (await rig.publisher.consumer_state("default")).redelivered:
            pass
    assert not runner.held.by_key and not rig.owner.results


async def test_bytes_that_are_no_task_are_thrown_away(rig: Rig) -> None:
    await rig.runner()
    assert rig.publisher.publish("default", "garbage", b"\xff\xff")
    await rig.confirmed.first()
    await rig.emptied()


async def test_results_without_verdicts_hold_back_new_tasks(rig: Rig) -> None:
    rig.owner.answers_results = False
    runner = await rig.runner(slots=2)
    for node in range(30):
        rig.publish(rig.task("transform", {"value": 1}, node=node))
    await rig.confirmed.at_least(30)
    held_max = 2 * HELD_PER_SLOT_MAX + 2
    first = await rig.owner.results.at_least(held_max - 2)
    await rig.publisher.stream_state()
    assert len(runner.held.by_key) <= held_max and await rig.unacknowledged() <= held_max
    rig.owner.answers_results = True
    rig.owner.settle(runner.runner_id, *(result.token for result in first))
    await rig.emptied()
    assert {result.node for result in rig.owner.results} == set(range(30))
