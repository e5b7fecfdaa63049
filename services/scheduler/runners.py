"""What the scheduler knows of runners: their slots, and the leases that their beats renew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from services.adapters.clock import Clock
from services.core.ids import shard_of
from services.core.inputs import TaskLost, TaskStarted
from services.core.states import ACTIVE, NodeStatus
from services.core.tasks import LEASE_US, AttemptRef, Beat, HeldTask
from services.scheduler.acting import Actor
from services.scheduler.dispatch import Dispatcher
from services.scheduler.items import Item
from services.scheduler.live import Live


@dataclass(slots=True)
class Runner:
    """A runner as its last beats describe it."""

    runner_id: str
    heard_at: int
    slots: int
    slots_used: int
    queues: tuple[str, ...]
    node_types: tuple[str, ...] = ()
    address: str = ""
    draining: bool = False


class Runners:
    """Hears beats, renews leases, and says which attempts are lost."""

    def __init__(
        self,
        clock: Clock,
        live: dict[bytes, Live],
        dispatcher: Dispatcher,
        actor: Actor,
        owned: set[int],
        put: Callable[[Item], None],
    ) -> None:
        self._clock = clock
        self._live = live
        self._dispatcher = dispatcher
        self._actor = actor
        self._owned = owned
        self._put = put
        self.known: dict[str, Runner] = {}

    def hear(self, beat: Beat) -> None:
        """A runner's word about itself: leases of what it holds are renewed, what is stale is cancelled."""
        now = self._clock.now()
        before = self.known.get(beat.runner_id)
        types = beat.node_types or (before.node_types if before else ())
        runner = Runner(
            beat.runner_id, now, beat.slots, beat.slots_used, beat.queues, types, beat.address, beat.draining
        )
        self.known[beat.runner_id] = runner
        if before is None or (before.slots, before.queues, before.draining) != (
            runner.slots,
            runner.queues,
            runner.draining,
        ):
            self._announce()
        stale: list[AttemptRef] = []
        for held in beat.held:
            if shard_of(held.execution_id) in self._owned:
                self._renew(beat.runner_id, held, now, stale)
        if beat.whole or stale:
            self._actor.cancel({beat.runner_id: stale})

    def _renew(self, runner_id: str, held: HeldTask, now: int, stale: list[AttemptRef]) -> None:
        live = self._live.get(held.execution_id)
        started = TaskStarted(held.node, held.attempt, runner_id, held.started_at)
        if live is None:
            # Asleep, not loaded yet, or ended: the writer finds out; a stale start changes nothing.
            self._put(Item(held.execution_id, started))
            return
        node = live.state.nodes[held.node] if held.node < len(live.state.nodes) else None
        if node is None or node.attempt != held.attempt or node.status not in ACTIVE:
            stale.append(AttemptRef(held.execution_id, held.node, held.attempt))
            return
        if live.state.grace_until and node.status is NodeStatus.RUNNING:
            stale.append(AttemptRef(held.execution_id, held.node, held.attempt))
        flight = live.in_flight.get(held.node)
        if flight is not None and flight.attempt == held.attempt and flight.runner_id in ("", runner_id):
            flight.runner_id, flight.heard_at = runner_id, now
        if held.heartbeat_details:
            live.heartbeats[held.node] = held.heartbeat_details
        if node.status is NodeStatus.SCHEDULED:
            self._put(Item(held.execution_id, started))

    def lost(self) -> list[Item]:
        """Attempts whose lease has ended: their runner has not said for a lease that it holds them."""
        horizon = self._clock.now() - LEASE_US
        found: list[Item] = []
        for live in self._live.values():
            for node, flight in live.in_flight.items():
                if flight.runner_id and flight.heard_at < horizon:
                    flight.heard_at = self._clock.now()
                    found.append(Item(live.id, TaskLost(node, flight.attempt, flight.runner_id)))
        gone = [runner.runner_id for runner in self.known.values() if runner.heard_at < horizon]
        for runner_id in gone:
            del self.known[runner_id]
        if gone:
            self._announce()
        return found

    def _announce(self) -> None:
        """Tell the dispatcher how many slots each queue has."""
        slots: dict[str, int] = defaultdict(int)
        for runner in self.known.values():
            if not runner.draining:
                for queue in runner.queues:
                    slots[queue] += runner.slots
        self._dispatcher.slots = dict(slots)
