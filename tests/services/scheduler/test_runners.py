"""What the owner makes of beats: leases, and what it tells runners to let go of."""

from __future__ import annotations

from services.adapters.wire.tasks import decode_control
from services.core.inputs import TaskReturned, TaskStarted
from services.core.ports import Fenced
from services.core.tasks import LEASE_US, AttemptRef, Beat, HeldTask
from services.core.units import SECOND
from services.scheduler.items import AskReply, Item, ResultReply
from services.scheduler.runners import Runners
from tests.support.scheduling import RUNNER, Rig, execution

ONE = {"name": "one", "nodes": [{"id": "a", "type": "work"}]}


class Bench:
    """The runners of a rig, on a bus that the test takes away."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.connected = True
        self.runners = Runners(
            rig.clock,
            rig.live,
            rig.dispatcher,
            rig.actor,
            set(range(256)),
            rig.put_item,
            lambda: self.connected,
        )

    def beat(self, execution_id: bytes, attempt: int = 1, runner_id: str = RUNNER) -> None:
        """A runner says that it runs an attempt of node 0."""
        held = HeldTask(execution_id, 0, attempt, self.rig.clock.now(), b"")
        self.runners.hear(Beat(runner_id, False, [held], 4, 1, ("default",), (), False, ""))

    def lost(self, seconds: int) -> int:
        """How many leases end while so many seconds go by."""
        count = 0
        for _ in range(seconds):
            self.rig.clock.advance(SECOND)
            count += len(self.runners.lost())
        return count

    def cancelled(self) -> list[AttemptRef]:
        """What runners were told to cancel."""
        return [
            ref
            for subject, data in self.rig.sent
            if subject.endswith(".control")
            for ref in decode_control(data).cancel
        ]


async def test_a_scheduler_that_lost_its_shards_cancels_nothing() -> None:
    """It slept beyond its lease: its successor dispatched attempt 2, of which its own memory knows nothing."""
    async with Rig(ONE) as rig:
        bench = Bench(rig)
        started = await rig.start(1)
        await rig.settle()
        rig.outcomes.append(Fenced("commits_pkey"))
        bench.beat(started, attempt=2, runner_id="runner-b")
        await rig.settle()
        assert rig.fences == ["commits_pkey"]
        assert bench.cancelled() == []


async def test_what_nobody_needs_is_cancelled_after_a_commit() -> None:
    async with Rig(ONE) as rig:
        bench = Bench(rig)
        running, ended = await rig.start(1), await rig.start(2)
        await rig.settle()
        rig.succeed(ended, 0, token=1)
        await rig.settle()
        rig.hold()
        for execution_id in (running, ended, execution(3)):
            bench.beat(execution_id)
        await rig.reached.wait()
        assert bench.cancelled() == []
        rig.release()
        await rig.settle()
        assert set(bench.cancelled()) == {AttemptRef(ended, 0, 1), AttemptRef(execution(3), 0, 1)}
        assert rig.live[running].state.nodes[0].runner_id == RUNNER


async def test_a_lease_ends_in_silence() -> None:
    async with Rig(ONE) as rig:
        bench = Bench(rig)
        await rig.start(1)
        await rig.settle()
        bench.beat(execution(1))
        assert bench.lost(LEASE_US // SECOND) == 0
        assert bench.lost(2) == 1


async def test_silence_does_not_count_while_the_bus_is_away() -> None:
    """Runners that live cannot say so then: three such outages must not make poison of what they run."""
    async with Rig(ONE) as rig:
        bench = Bench(rig)
        await rig.start(1)
        await rig.settle()
        bench.beat(execution(1))
        bench.connected = False
        assert bench.lost(60) == 0
        bench.connected = True
        assert bench.lost(5) == 0
        bench.beat(execution(1))
        assert bench.lost(12) == 0
        assert bench.lost(6) == 1


async def test_silence_does_not_count_while_the_process_stands_still() -> None:
    """Frozen, or busy: what runners said meanwhile waits to be read."""
    async with Rig(ONE) as rig:
        bench = Bench(rig)
        await rig.start(1)
        await rig.settle()
        bench.beat(execution(1))
        assert bench.lost(3) == 0
        rig.clock.advance(60 * SECOND)
        assert bench.lost(1) == 0
        bench.beat(execution(1))
        assert bench.lost(14) == 0
        assert bench.lost(2) == 1


async def test_a_lease_begins_with_the_start_whoever_published_the_task() -> None:
    """Started in the batch that would have published it: without a lease nobody would miss its runner."""
    async with Rig(ONE) as rig:
        bench = Bench(rig)
        bench.beat(await rig.start(1))
        await rig.settle()
        assert rig.live[execution(1)].state.nodes[0].runner_id == RUNNER
        assert rig.publications.tasks == []
        assert bench.lost(17) == 1


async def test_a_late_beat_does_not_take_back_what_was_given_back() -> None:
    """A draining runner holds its result until the verdict, and beats meanwhile: the task goes to others nevertheless."""
    async with Rig(ONE) as rig:
        bench = Bench(rig)
        started = await rig.start(1)
        await rig.settle()
        bench.beat(started)
        rig.put_item(Item(started, TaskReturned(0, 1, RUNNER), ResultReply(RUNNER, 1)))
        bench.beat(started)
        await rig.settle()
        assert len(rig.publications.tasks) == 2
        bench.beat(started)
        await rig.settle()
        rig.ask(started, AskReply("runner-b", 1, 0, 1))
        await rig.settle()
        assert rig.answers().run == [1]


async def test_a_task_given_back_goes_out_under_a_fresh_message_id() -> None:
    """The work queue remembers ids for two minutes: the same again would be swallowed, and missed only by repair."""
    async with Rig(ONE) as rig:
        started = await rig.start(1)
        await rig.settle()
        rig.put_item(Item(started, TaskStarted(0, 1, RUNNER, rig.clock.now())))
        rig.put_item(Item(started, TaskReturned(0, 1, RUNNER), ResultReply(RUNNER, 1)))
        await rig.settle()
        assert len(rig.publications.ids) == 2
        assert len(set(rig.publications.ids)) == 2
