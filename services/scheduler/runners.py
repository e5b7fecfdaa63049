"""What the scheduler knows of runners: their slots, and the leases that their beats renew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from services.adapters.clock import Clock
from services.core.ids import shard_of
from services.core.inputs import TaskLost, TaskStarted
from services.core.states import ACTIVE, NodeStatus
from services.core.tasks import LEASE_US, Beat, HeldTask
from services.core.units import SECOND
from services.scheduler.acting import Actor
from services.scheduler.dispatch import Dispatcher
from services.scheduler.items import HeldReply, Item
from services.scheduler.live import Live

# Leases are looked at every second: who has not for so long has not heard either.
STANDSTILL_SECONDS = 4.0


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
        connected: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._live = live
        self._dispatcher = dispatcher
        self._actor = actor
        self._owned = owned
        self._put = put
        self._connected = connected
        self._looked_at: float | None = None
        self._deaf_at = float("-inf")
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
        for held in beat.held:
            if shard_of(held.execution_id) in self._owned and not self._renew(beat.runner_id, held, now):
                # Not begun yet as far as we know, asleep, or not needed any more: the writer finds out, and what it
                # finds is told after its commit. Memory alone may be that of a scheduler which has lost its shards.
                started = TaskStarted(held.node, held.attempt, beat.runner_id, held.started_at)
                reply = HeldReply(beat.runner_id, held.node, held.attempt)
                self._put(Item(held.execution_id, started, reply))
        if beat.whole:
            self._actor.cancel({beat.runner_id: []})

    def _renew(self, runner_id: str, held: HeldTask, now: int) -> bool:
        """Renew a lease; whether the attempt is known to run, and wanted."""
        live = self._live.get(held.execution_id)
        if live is None:
            return False
        node = live.state.nodes[held.node] if held.node < len(live.state.nodes) else None
        if node is None or node.attempt != held.attempt or node.status not in ACTIVE:
            return False
        if node.returned_by == runner_id:
            return False
        flight = live.in_flight.get(held.node)
        if flight is not None and flight.attempt == held.attempt and flight.runner_id in ("", runner_id):
            flight.runner_id, flight.heard_at = runner_id, now
        if held.heartbeat_details:
            live.heartbeats[held.node] = held.heartbeat_details
        return node.status is NodeStatus.RUNNING and not live.state.grace_until

    def lost(self) -> list[Item]:
        """Attempts whose lease has ended: their runner has not said for a lease that it holds them.

        Silence counts only while somebody listened: none for a lease after the bus was away, or after this process
        stood still (what runners said meanwhile is yet to be read).
        """
        if self._was_deaf():
            return []
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

    def _was_deaf(self) -> bool:
        now = self._clock.monotonic()
        stood_still = self._looked_at is not None and now - self._looked_at > STANDSTILL_SECONDS
        self._looked_at = now
        if stood_still or not self._connected():
            self._deaf_at = now
        return now - self._deaf_at < LEASE_US / SECOND

    def _announce(self) -> None:
        """Tell the dispatcher how many slots each queue has."""
        slots: dict[str, int] = defaultdict(int)
        for runner in self.known.values():
            if not runner.draining:
                for queue in runner.queues:
                    slots[queue] += runner.slots
        self._dispatcher.slots = dict(slots)
