"""A scheduler's writer over memory: commits that a test holds, refuses or loses, and everything that left it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
from prometheus_client import CollectorRegistry

from services.adapters.bus import StreamState
from services.adapters.clock import FixedClock
from services.adapters.memory.store import MemoryCommits, MemoryStore
from services.adapters.postgres.commit import COMMITS_KEY
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.wire.tasks import decode_answers, decode_task, decode_verdicts
from services.core.definition.canonical import canonical_bytes, content_hash
from services.core.definition.parse import parse_definition
from services.core.graph import RetryDefaults
from services.core.inputs import Begin, TaskSucceeded
from services.core.ports import CommitBatch, Committed, Outcome
from services.core.records import NewExecution, VersionRow
from services.core.tasks import AnswerBatch, Task, VerdictBatch
from services.scheduler.acting import Actor
from services.scheduler.batch import Batch
from services.scheduler.deciding import Decider
from services.scheduler.dispatch import Dispatcher
from services.scheduler.items import Item, Reply, ResultReply
from services.scheduler.live import LiveTable
from services.scheduler.loading import Loader
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.versions import VersionCache
from services.scheduler.wakes import Wakes
from services.scheduler.writer import Writer
from tests.support.machine import compiler

SESSION = 1
VERSION_ID = bytes(15) + b"\x07"
RUNNER = "runner-a"


class Publications:
    """`TaskPublisher` that keeps what was published."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.ids: list[str] = []
        self.present: set[int] = set()
        self.created_at = 0
        self.unconfirmed = 0

    def publish(self, queue: str, message_id: str, data: bytes) -> bool:
        """Keep it."""
        self.tasks.append(decode_task(data))
        self.ids.append(message_id)
        return True

    def withdraw(self, message_id: str) -> bool:
        """Nothing is repeated here."""
        return False

    async def stream_state(self) -> StreamState:
        """A stream as the test says."""
        return StreamState(self.created_at, 1, 1_000_000, len(self.present), 0)

    async def has_sequence(self, sequence: int) -> bool:
        """Whether the test says that it is there."""
        return sequence in self.present

    async def consumer_state(self, queue: str) -> Any:
        """Not asked for."""
        raise NotImplementedError(queue)

    async def close(self) -> None:
        """Nothing to stop."""


class Rig:
    """One session's writer. `gate` holds commits: see `hold` and `release`."""

    def __init__(
        self, definition: dict[str, Any], store: MemoryStore | None = None, session: int = SESSION
    ) -> None:
        self.store = store or MemoryStore()
        self.clock = FixedClock()
        self.live = LiveTable()
        self.publications = Publications()
        self.sent: list[tuple[str, bytes]] = []
        self.fences: list[str] = []
        self.session = session
        # Since when the shards are ours; what is accepted later than that is taken for new.
        self.owned_since = self.clock.now()
        self.held: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.outcomes: list[Outcome | None] = []
        self.decided = 0
        self._add_version(definition)
        rows = cast("ExecutionStore", self.store)
        self.dispatcher = Dispatcher(self.clock, self.live, self.put_item, lambda _: False)
        self.dispatcher.connect(self.publications)
        self.wakes = Wakes(self.live)
        self.actor = Actor(
            self.dispatcher, self.wakes, self.live, lambda s, d: self.sent.append((s, d)), self.clock.now
        )
        self.versions = VersionCache(rows, compiler(), RetryDefaults())
        self.loader = Loader(
            self.clock,
            rows,
            self.versions,
            self.live,
            self.wakes.note,
            lambda _: self.owned_since,
        )
        self.decider = Decider(
            self.clock, self.loader, self.live, lambda _: True, lambda: 0.5, self.dispatcher.release_all
        )
        self.metrics = SchedulerMetrics(CollectorRegistry())
        self.writer = Writer(self.clock, self.decider, self._act, self._fenced, self.metrics)
        self.commits = MemoryCommits(self.store, self._gate)
        self.writer.open(session, self.commits)
        self.dispatcher.session = session
        self.task: asyncio.Task[None] | None = None

    def _add_version(self, plain: dict[str, Any]) -> None:
        definition, problems = parse_definition(plain)
        assert definition is not None, problems
        self.store.version_rows[VERSION_ID] = VersionRow(
            VERSION_ID,
            bytes(16),
            "org",
            1,
            canonical_bytes(definition),
            content_hash(definition),
            1,
            0,
            "user",
        )

    async def __aenter__(self) -> Rig:
        self.task = asyncio.create_task(self.writer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        failed = self.task.done() and not self.task.cancelled()
        self.task.cancel()
        await asyncio.wait([self.task])
        if failed:
            self.task.result()

    async def _gate(self, batch: CommitBatch) -> Outcome | None:
        self.reached.set()
        if self.held is not None:
            await self.held.wait()
        return self.outcomes.pop(0) if self.outcomes else None

    def _act(self, batch: Batch, digest: bytes, outcome: Committed) -> None:
        self.actor.act(batch, digest, outcome)

    def _fenced(self, constraint: str) -> None:
        self.fences.append(constraint)
        if constraint != COMMITS_KEY:
            self.loader.distrust()
        self.writer.shut()
        self.live.clear()

    def hold(self) -> None:
        """Commits wait from now on; `reached` tells when one does."""
        self.held = asyncio.Event()
        self.reached.clear()

    def release(self) -> None:
        """Let the waiting commit, and those after it, go on."""
        assert self.held is not None
        self.held.set()
        self.held = None

    def put_item(self, item: Item) -> None:
        """Queue an input."""
        self.writer.put(item)

    async def settle(self) -> None:
        """Return once everything queued is committed and acted upon."""
        await asyncio.wait_for(self.writer.until_idle(), 10)

    async def start(self, number: int, value: object = None) -> bytes:
        """Accept an execution and let it begin."""
        execution_id = self.accept(number, value)
        self.put_item(Item(execution_id, Begin()))
        return execution_id

    def accept(self, number: int, value: object = None) -> bytes:
        """Accept an execution; its nudge gets lost."""
        execution_id = execution(number)
        self.store.accept(
            NewExecution(
                execution_id=execution_id,
                organization_id="org",
                user_id="user",
                workflow_id=bytes(16),
                workflow_name="test",
                version_id=VERSION_ID,
                version=1,
                mode="api",
                priority="normal",
                created_at=self.clock.now(),
                timeout_us=300_000_000,
                key_root=execution_id,
                root_execution_id=execution_id,
                input=orjson.dumps(value),
            )
        )
        return execution_id

    def succeed(
        self, execution_id: bytes, node: int, token: int, output: bytes = b"1", attempt: int = 1
    ) -> None:
        """A runner sends a result."""
        now = self.clock.now()
        happened = TaskSucceeded(node, attempt, output, RUNNER, now, now)
        self.put_item(Item(execution_id, happened, ResultReply(RUNNER, token)))

    def ask(self, execution_id: bytes, reply: Reply) -> None:
        """A runner asks."""
        self.put_item(Item(execution_id, None, reply))

    def verdicts(self) -> VerdictBatch:
        """All verdicts that left so far."""
        counted: list[int] = []
        stale: list[int] = []
        for subject, data in self.sent:
            if subject.endswith(".verdict"):
                batch = decode_verdicts(data)
                counted += batch.counted
                stale += batch.stale
        return VerdictBatch(counted, stale)

    def answers(self) -> AnswerBatch:
        """All answers that left so far."""
        run: list[int] = []
        drop: list[int] = []
        for subject, data in self.sent:
            if subject.endswith(".answer"):
                batch = decode_answers(data)
                run += batch.run
                drop += batch.drop
        return AnswerBatch(run, drop)


def execution(number: int) -> bytes:
    """Id of the execution with a number; its shard is the number's last byte."""
    return b"\x01" * 14 + number.to_bytes(2, "big")
