"""What is being read when its shard is lost does not come into memory: it would hide the shard's rows later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.core.ids import shard_of
from services.core.inputs import TimersDue
from services.scheduler.items import Item
from tests.support.scheduling import Rig

WAITS = {"name": "waits", "nodes": [{"id": "nap", "type": "delay", "parameters": {"duration": "5s"}}]}


async def test_a_shard_lost_while_its_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A nudge that a thawed scheduler finds in its socket, just before it learns that its lease has ended."""
    async with Rig(WAITS) as rig:
        first = await rig.start(1)
        await rig.settle()
        rig.live.clear()  # as after a restart: the row is there, memory is not
        reading, read_on = asyncio.Event(), asyncio.Event()
        history_after = rig.store.history_after

        async def slow(wanted: Any) -> Any:
            rows = await history_after(wanted)
            reading.set()
            await read_on.wait()
            return rows

        monkeypatch.setattr(rig.store, "history_after", slow)
        rig.put_item(Item(first, TimersDue()))
        await reading.wait()
        rig.live.lose({shard_of(first)})
        read_on.set()
        await rig.settle()
        assert first not in rig.live
        # It comes back, and so does the execution.
        rig.put_item(Item(first, TimersDue()))
        await rig.settle()
        assert rig.live[first].wake_at
