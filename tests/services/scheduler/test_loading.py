"""What is brought into memory, while the writer goes on: nothing older than what was committed, nothing that cannot run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from services.adapters.memory.store import MemoryStore
from services.adapters.postgres.executions import ExecutionStore
from services.core.inputs import Begin
from services.core.records import OpenExecution
from services.core.units import SECOND
from services.scheduler.duties.repair import Repair
from services.scheduler.items import Item
from tests.support.scheduling import Rig

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
