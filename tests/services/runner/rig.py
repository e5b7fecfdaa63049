"""A runner in the test's process, a real bus, and an owner that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import orjson
from prometheus_client import CollectorRegistry

from services.adapters.cel import CelCompiler
from services.adapters.clock import SystemClock
from services.adapters.ids import new_instance_id, new_uuid7
from services.adapters.lifecycle import Duty
from services.adapters.metrics import DutyMetrics
from services.adapters.nats.connection import NatsBus, connect
from services.adapters.nats.publisher import NatsTaskPublisher
from services.adapters.nats.puller import NatsTaskPuller
from services.adapters.nats.topology import (
    ANSWER,
    ASK,
    BEAT,
    CONTROL,
    LOG,
    RESULT,
    VERDICT,
    kind_of,
    runner_subject,
)
from services.adapters.wire import tasks as wire
from services.core.tasks import (
    AnswerBatch,
    Ask,
    AttemptRef,
    Beat,
    Control,
    LogChunk,
    Result,
    Task,
    VerdictBatch,
)
from services.runner.handlers import Handlers
from services.runner.nodes import built_in
from services.runner.nodes.egress import Egress
from services.runner.nodes.http_request import HttpRequest
from services.runner.runner import Runner
from weconnect import App

QUEUE = "default"
PATIENCE_SECONDS = 20.0
T = TypeVar("T")


class Heard(list[T]):
    """What came, in order, with a way to wait for more."""

    def __init__(self) -> None:
        super().__init__()
        self._came = asyncio.Event()

    def add(self, item: T) -> None:
        """Something came."""
        self.append(item)
        self._came.set()
        self._came = asyncio.Event()

    async def first(self, wanted: Callable[[T], bool] = lambda _: True, after: int = 0) -> T:
        """First item from the index `after` on that is wanted, waited for."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                came = self._came
                for item in self[after:]:
                    if wanted(item):
                        return item
                await came.wait()

    async def at_least(self, least: int) -> list[T]:
        """All items, once there are that many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self) < least:
                await self._came.wait()
        return list(self)


class Owner:
    """Owns every shard. Answers as its switches say; records everything."""

    def __init__(self, bus: NatsBus) -> None:
        self.bus = bus
        self.answers_results = True
        self.answers_asks: bool | None = True  # True: run, False: drop, None: silence
        self.confirms_logs = True
        self.results: Heard[Result] = Heard()
        self.asks: Heard[Ask] = Heard()
        self.chunks: Heard[LogChunk] = Heard()
        self.beats: Heard[Beat] = Heard()
        # Kinds of messages in the order in which they came: result, log.
        self.order: list[str] = []
        bus.subscribe("wc.owner.*.*", self._on_message)
        bus.subscribe(BEAT, self._on_beat)

    def settle(self, runner_id: str, *tokens: int, counted: bool = True) -> None:
        """Send a verdict."""
        batch = VerdictBatch(list(tokens), []) if counted else VerdictBatch([], list(tokens))
        self.bus.publish(runner_subject(runner_id, VERDICT), wire.encode_verdicts(batch))

    def answer(self, ask: Ask, *, run: bool) -> None:
        """Answer an ask."""
        batch = AnswerBatch([ask.token], []) if run else AnswerBatch([], [ask.token])
        self.bus.publish(runner_subject(ask.runner_id, ANSWER), wire.encode_answers(batch))

    def control(self, runner_id: str, *tasks: Task, now: int = 0) -> None:
        """Cancel attempts, tell the time."""
        refs = tuple(AttemptRef(task.execution_id, task.node, task.attempt) for task in tasks)
        self.bus.publish(runner_subject(runner_id, CONTROL), wire.encode_control(Control(refs, now)))

    async def result_of(self, task: Task) -> Result:
        """First result of a task's attempt."""
        return await self.results.first(lambda result: result.execution_id == task.execution_id)

    def _on_message(self, data: bytes, reply: str, subject: str) -> None:
        kind = kind_of(subject)
        self.order.append(kind)
        if kind == RESULT:
            batch = wire.decode_results(data)
            for result in batch.results:
                self.results.add(result)
            if self.answers_results:
                self.settle(batch.runner_id, *(result.token for result in batch.results))
        elif kind == ASK:
            ask = wire.decode_ask(data)
            self.asks.add(ask)
            if self.answers_asks is not None:
                self.answer(ask, run=self.answers_asks)
        elif kind == LOG:
            self.chunks.add(wire.decode_log_chunk(data))
            if self.confirms_logs:
                self.bus.publish(reply, b"")

    def _on_beat(self, data: bytes, reply: str, subject: str) -> None:
        self.beats.add(wire.decode_beat(data))


class Rig:
    """One runner, its owner, and the queue between them. `close` ends everything."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = SystemClock()
        self.buses: list[NatsBus] = []
        self.duties: list[tuple[Duty, asyncio.Task[None]]] = []
        self.https: list[HttpRequest] = []
        self.runners: list[Runner] = []

    async def open(self) -> None:
        """Connect the owner and make the queue."""
        self.owner = Owner(await self.connect("owner"))
        self.confirmed: Heard[str] = Heard()
        publisher_bus = await self.connect("publisher")
        self.publisher = NatsTaskPublisher(
            publisher_bus, lambda message_id, sequence, duplicate: self.confirmed.add(message_id),
            lambda message_id, error: None, queues=(QUEUE,),
        )  # fmt: skip

    async def connect(self, name: str) -> NatsBus:
        """A connection that `close` closes."""
        bus = await connect(self.url, None, name)
        self.buses.append(bus)
        return bus

    async def runner(
        self, app: App | None = None, *, slots: int = 10, drain_s: float = 5.0, egress: Egress | None = None
    ) -> Runner:
        """Start a runner."""
        http = HttpRequest(egress or Egress(), self.clock)
        self.https.append(http)
        handlers = Handlers(built_in(http))
        if app is not None:
            handlers.add(app)
        registry = CollectorRegistry()
        bus = await self.connect("runner")
        runner = Runner(
            new_instance_id("runner"), bus, partial(connect, self.url, None, "pulse"), handlers, CelCompiler(),
            self.clock, registry, slots=slots, queues=(QUEUE,), drain_s=drain_s,
        )  # fmt: skip
        await runner.start()
        duty = runner.repeats.duty(DutyMetrics(registry))
        self.duties.append((duty, asyncio.create_task(duty.run())))
        await runner.pull_from(NatsTaskPuller(bus, (QUEUE,), slots, runner.deliver))
        self.runners.append(runner)
        return runner

    def task(self, type: str, parameters: Any = None, bindings: Any = None, **fields: Any) -> Task:
        """A fresh task."""
        now = self.clock.now()
        given: dict[str, Any] = {
            "execution_id": new_uuid7(now),
            "node": 3,
            "attempt": 1,
            "node_id": "n",
            "node_name": "n",
            "type": type,
            "parameters": b"" if parameters is None else orjson.dumps(parameters),
            "bindings": b"" if bindings is None else orjson.dumps(bindings),
            "published_at": now,
            "idempotency_key": "key-1",
        }
        return Task(**(given | fields))

    def publish(self, task: Task, publication_id: str = "") -> Task:
        """Put a task on the queue."""
        message_id = publication_id or f"{task.execution_id.hex()}:{task.attempt}:{task.publication}"
        assert self.publisher.publish(QUEUE, message_id, wire.encode_task(task))
        return task

    async def run(self, task: Task) -> Result:
        """Put a task on the queue and wait for its result."""
        return await self.owner.result_of(self.publish(task))

    async def unacknowledged(self) -> int:
        """Tasks delivered and not acknowledged."""
        state = await self.publisher.consumer_state(QUEUE)
        return state.unacknowledged

    async def emptied(self) -> None:
        """Return when the queue holds nothing and nothing is unacknowledged."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                state = await self.publisher.consumer_state(QUEUE)
                if not state.pending and not state.unacknowledged:
                    return

    async def close(self) -> None:
        """End everything."""
        for runner in self.runners:
            await runner.pulse.stop()
        for duty, task in self.duties:
            duty.stop()
            await task
        for http in self.https:
            await http.close()
        await self.publisher.close()
        for bus in self.buses:
            await bus.close()
