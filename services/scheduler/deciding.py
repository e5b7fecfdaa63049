"""Decides a batch: loads what is not in memory, calls the core for each input, collects what it wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from services.adapters.clock import Clock
from services.adapters.log import get_logger
from services.core.inputs import Cancel, TaskStarted
from services.core.machine import Decision, decide
from services.core.machine import Verdict as Counted
from services.core.records import Verdict
from services.core.states import NodeStatus
from services.scheduler.batch import Batch, Change
from services.scheduler.duties.quarantine import reason
from services.scheduler.items import AskReply, CommandReply, HeldReply, Item, ResultReply
from services.scheduler.live import Live, LiveTable
from services.scheduler.loading import Loader

# Inputs decided before the loop may do something else (renew a lease, answer a beat).
SLICE_ITEMS = 64

log = get_logger(__name__)


class Decider:
    """Owns the executions in memory and applies inputs to them."""

    def __init__(
        self,
        clock: Clock,
        loader: Loader,
        live: LiveTable,
        owns: Callable[[bytes], bool],
        draw: Callable[[], float],
        forgotten: Callable[[Live], None],
    ) -> None:
        self._clock = clock
        self._loader = loader
        self._live = live
        self._owns = owns
        self._draw = draw
        self._forgotten = forgotten

    async def decide(self, items: list[Item]) -> Batch:
        """Decide inputs in order. Those of executions that are not ours are dropped: "not mine" is no verdict."""
        batch = Batch(self._clock.now())
        mine = [item for item in items if self._owns(item.execution_id)]
        await self._load(mine)
        # A shard that was lost while rows were read has no strangers of ours: "not mine" is no verdict.
        mine = [item for item in mine if self._owns(item.execution_id)]
        broken = self._loader.take_broken()
        batch.quarantines.update({key: reason(why) for key, why in broken.items()})
        for start in range(0, len(mine), SLICE_ITEMS):
            for item in mine[start : start + SLICE_ITEMS]:
                self._decide(item, batch)
            if start + SLICE_ITEMS < len(mine):
                await asyncio.sleep(0)
        return batch

    async def _load(self, items: Iterable[Item]) -> None:
        """Bring the executions of a batch, and the outputs they need, into memory: at most two queries."""
        wanted = {item.execution_id for item in items}
        missing = [execution_id for execution_id in wanted if execution_id not in self._live]
        if missing:
            self._loader.held.clear()
            await self._loader.load(missing)
            await self._load_held(items)
        bare = [live for key in wanted if (live := self._live.get(key)) and not live.state.values.complete]
        if bare:
            await self._loader.load_outputs(bare)

    async def _load_held(self, items: Iterable[Item]) -> None:
        """A forced cancel ends even a quarantined execution, whose history nobody can fold."""
        for item in items:
            row = self._loader.held.get(item.execution_id)
            if row is not None and isinstance(item.happened, Cancel) and item.happened.force:
                await self._loader.load_bare(row)

    def _decide(self, item: Item, batch: Batch) -> None:
        if item.execution_id in batch.quarantines:
            return
        live = self._live.get(item.execution_id)
        if live is None:
            self._stranger(item, batch)
            return
        change = batch.change(live)
        change.items.append(item)
        happened = item.happened
        granted = False
        if isinstance(item.reply, AskReply):
            granted = self._grant(live, item.reply)
            if granted:
                happened = TaskStarted(item.reply.node, item.reply.attempt, item.reply.runner_id, batch.at)
        if happened is None:
            if item.reply is not None:
                change.replies.append((item.reply, granted))
            return
        try:
            decision = decide(live.state, happened, batch.at, self._draw())
        except Exception as error:  # a bug or a corrupt history must not take the other executions along
            log.error("quarantined", execution_id=live.id.hex(), exc_info=error)
            del batch.changes[live.id]
            self.forget(live)
            batch.quarantines[live.id] = reason(f"{type(error).__name__}: {error}")
            return
        change.events.extend(decision.events)
        change.effects.extend(decision.effects)
        self._answer(item, change, decision, granted)

    @staticmethod
    def _answer(item: Item, change: Change, decision: Decision, granted: bool) -> None:
        match item.reply:
            case None:
                pass
            case CommandReply(command_id):
                if decision.verdict is Counted.REFUSED:
                    change.verdicts.append(Verdict(command_id, "refused", decision.reason.encode()))
                else:
                    change.verdicts.append(Verdict(command_id, "accepted"))
            case AskReply():
                change.replies.append((item.reply, granted))
            case ResultReply():
                change.replies.append((item.reply, decision.verdict is Counted.COUNTED))
            case HeldReply():
                needed = decision.verdict is Counted.COUNTED and not change.live.state.grace_until
                change.replies.append((item.reply, needed))

    @staticmethod
    def _grant(live: Live, ask: AskReply) -> bool:
        """Whether a runner may run an attempt: it is current, and nobody else has it."""
        nodes = live.state.nodes
        if ask.node >= len(nodes) or nodes[ask.node].attempt != ask.attempt or live.state.grace_until:
            return False
        node = nodes[ask.node]
        if node.status is NodeStatus.SCHEDULED:
            flight = live.in_flight.get(ask.node)
            free = flight is None or flight.runner_id in ("", ask.runner_id)
            return free and node.returned_by != ask.runner_id
        return node.status is NodeStatus.RUNNING and node.runner_id == ask.runner_id

    def _stranger(self, item: Item, batch: Batch) -> None:
        """The execution is not open, in a shard that is ours: it has ended, and the commit will say so.

        Or it is quarantined: what its runners report is dropped, and run again should it be taken out.
        """
        if isinstance(item.reply, CommandReply):
            refused = b"EXECUTION_ENDED" if isinstance(item.happened, Cancel) else b"EXECUTION_NOT_OPEN"
            if item.execution_id in self._loader.held:
                refused = b"EXECUTION_QUARANTINED"
            batch.stranger_verdicts.append(Verdict(item.reply.command_id, "refused", refused))
        elif isinstance(item.reply, HeldReply) and item.execution_id in self._loader.held:
            pass  # quarantined: what runs may run on
        elif item.reply is not None:
            batch.strangers.append((item.execution_id, item.reply))

    def forget(self, live: Live) -> None:
        """Drop an execution from memory; whoever needs it loads it from rows."""
        if self._live.leave(live.id) is not None:
            self._loader.forgotten.add(live.id)
            self._forgotten(live)
