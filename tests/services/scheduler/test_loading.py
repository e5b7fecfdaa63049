"""What is brought into memory, while the writer goes on: nothing older than what was committed, nothing that cannot run."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Sequence
from typing import Any, cast

from services.adapters.memory.store import MemoryStore
from services.adapters.postgres.executions import ExecutionStore
from services.core.inputs import Begin, Cancel
from services.core.records import OpenExecution
from services.core.units import KIB, SECOND
from services.scheduler.duties.repair import Repair
from services.scheduler.items import CommandReply, Item
from services.scheduler.versions import INLINE_BYTES_MAX
from tests.support.scheduling import VERSION_ID, Rig

SHORT = {"name": "short", "nodes": [{"id": "a", "type": "noop"}]}
ONE = {"name": "one", "nodes": [{"id": "a", "type": "work"}]}


class SlowPages(MemoryStore):
    """Its pages of awake executions arrive late: they are as old as the moment they were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.answered = asyncio.Event()

    async def awake(
        self, shards: Sequence[int], limit: int, after: OpenExecution | None = None
    ) -> list[OpenExecution]:
        """A page that is held back until the test lets it go."""
        page = await super().awake(shards, limit, after)
        self.asked.set()
        await self.answered.wait()
        return page


def repair_of(rig: Rig) -> Repair:
    """The duty over a rig's parts, for the one shard of its first execution."""
    rows = cast("ExecutionStore", rig.store)
    unused = cast("Any", None)
    return Repair(
        rig.clock,
        rows,
        rig.loader,
        rig.live,
        {1},
        rig.dispatcher,
        unused,
        rig.publications,
        rig.put_item,
        rig.metrics,
    )


async def test_an_execution_that_ends_while_its_row_is_read_is_not_begun_again() -> None:
    """Begun again, its first event would meet the one that is there, and the whole session would be fenced."""
    store = SlowPages()
    async with Rig(SHORT, store) as rig:
        rig.clock.advance(60 * SECOND)
        started = rig.accept(1)
        duty = asyncio.create_task(repair_of(rig).rows())
        await store.asked.wait()
        rig.put_item(Item(started, Begin()))
        await rig.settle()
        assert store.finished[started].status == "success"
        store.answered.set()
        await duty
        await rig.settle()
        assert rig.fences == []
        assert not rig.live


async def test_a_wrong_clock_fences_once_and_not_for_ever() -> None:
    """Its ids come from the future: every owner takes it for new, though it began long ago."""
    async with Rig(ONE) as rig:
        rig.clock.advance(60 * SECOND)
        started = await rig.start(1)
        await rig.settle()
        async with Rig(ONE, rig.store, session=2) as other:
            other.put_item(Item(started, Begin()))
            await other.settle()
            assert other.fences == ["execution_history_pkey"]
            other.writer.open(3, other.commits)
            other.put_item(Item(started, Begin()))
            await other.settle()
            assert len(other.fences) == 1
            assert other.live[started].state.started_at


async def test_a_version_that_cannot_be_compiled_holds_its_own_executions_only() -> None:
    async with Rig(ONE) as rig:
        row = rig.store.version_rows[VERSION_ID]
        other = bytes(15) + b"\x08"
        rig.store.version_rows[other] = dataclasses.replace(row, version_id=other, definition=b'{"nodes": 1}')
        broken = rig.accept(1)
        start = rig.store.open[broken].start
        rig.store.open[broken] = dataclasses.replace(
            rig.store.open[broken], start=dataclasses.replace(start, version_id=other)
        )
        rig.put_item(Item(broken, Begin()))
        fine = await rig.start(2)
        await rig.settle()
        assert [task.execution_id for task in rig.publications.tasks] == [fine]
        assert b"cannot be compiled" in (rig.store.open[broken].quarantine or b"")
        # Not even a forced cancel can end it in this release, and it says so.
        rig.put_item(Item(broken, Cancel("", "user", True), CommandReply(b"c" * 16)))
        rig.store.commands[b"c" * 16] = cast("Any", Verdictless())
        await rig.settle()
        assert rig.task is not None
        assert not rig.task.done()


@dataclasses.dataclass
class Verdictless:
    """A row of the inbox."""

    verdict: str | None = None
    verdict_body: bytes = b""


async def test_a_large_definition_is_compiled_beside_the_loop() -> None:
    """It may take longer than the session's lease, which the loop renews."""
    nodes = [{"id": f"n{i}", "type": "noop", "name": "x" * 64} for i in range(400)]
    async with Rig({"name": "large", "nodes": nodes}) as rig:
        assert len(rig.store.version_rows[VERSION_ID].definition) > INLINE_BYTES_MAX > KIB
        threads: list[str] = []
        compile_one = rig.versions._compile

        def compile_noting(row: Any) -> Any:
            threads.append(threading.current_thread().name)
            return compile_one(row)

        rig.versions._compile = compile_noting  # type: ignore[method-assign]
        first, second = await rig.start(1), await rig.start(2)
        await rig.settle()
        assert {first, second} <= set(rig.store.finished)
        assert len(threads) == 1
        assert threads[0].startswith("compile")
