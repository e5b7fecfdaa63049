"""Dispatch: the window of published and unfinished tasks, and the backlog behind it.

At most 2 × the slots that runners announce for a queue (at least 64) are out at a time, for all schedulers
together: each keeps its share. What waits beyond the window costs nothing to cancel.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from itertools import count

from services.adapters.bus import PayloadTooLarge, TaskPublisher
from services.adapters.clock import Clock
from services.adapters.log import get_logger
from services.adapters.wire.tasks import encode_task
from services.core.errors import RESOURCE, NodeError
from services.core.ids import idempotency_key
from services.core.inputs import TaskRefused
from services.core.machine.bindings import task_bindings
from services.core.states import ACTIVE, NodeStatus
from services.core.tasks import MESSAGE_BYTES_MAX, Task
from services.scheduler.backlog import Backlog, Waiting
from services.scheduler.items import Item
from services.scheduler.live import InFlight, Live

log = get_logger(__name__)

WINDOW_MIN = 64
WINDOW_SLOTS_FACTOR = 2
# Tasks published before the loop may write them out.
SLICE_TASKS = 128
# Tasks published beyond the window when shards change hands.
FLUSH_TASKS_MAX = 1000


class Dispatcher:
    """Publishes what is scheduled, within the window."""

    def __init__(
        self,
        clock: Clock,
        live: dict[bytes, Live],
        refuse: Callable[[Item], None],
        sampled: Callable[[bytes], bool],
    ) -> None:
        self._clock = clock
        self._publisher: TaskPublisher | None = None
        self._live = live
        self._refuse = refuse
        self._sampled = sampled
        self._backlogs: dict[str, Backlog] = defaultdict(Backlog)
        self._out: dict[str, int] = defaultdict(int)
        self._unconfirmed: dict[str, InFlight] = {}
        self._pumping = False
        self._publications = count(1)
        self.session = 0
        self.share = 1.0
        self.slots: dict[str, int] = {}
        self.published = 0

    def connect(self, publisher: TaskPublisher) -> None:
        """Where tasks leave; its callbacks are `confirmed` and `failed`."""
        self._publisher = publisher

    def add(self, live: Live, node: int, attempt: int) -> None:
        """An attempt was scheduled and committed: it waits for room."""
        compiled, info = live.state.workflow.nodes[node], live.state.info
        priority = compiled.priority.value if compiled.priority else info.priority.upper()
        waiting = Waiting(live, node, attempt, self._clock.now())
        self._backlogs[compiled.task_queue].put(priority, info.organization_id, waiting)
        live.waiting += 1

    def started(self, live: Live, node: int, attempt: int, runner_id: str) -> None:
        """A runner has the attempt: its lease begins, though somebody else may have published the task."""
        flight = live.in_flight.get(node)
        if flight is None or flight.attempt != attempt:
            self.release(live, node)
            flight = live.in_flight[node] = InFlight(attempt, 0, publication=1)
        flight.runner_id, flight.heard_at = runner_id, self._clock.now()

    def release(self, live: Live, node: int) -> None:
        """The attempt that was out is over."""
        flight = live.in_flight.pop(node, None)
        if flight is not None and flight.queue:
            self._out[flight.queue] -= 1

    def release_all(self, live: Live) -> None:
        """The execution is over, or somebody else's."""
        for node in list(live.in_flight):
            self.release(live, node)

    def room(self, queue: str) -> int:
        """How many more tasks of a queue this scheduler may publish now."""
        window = max(WINDOW_MIN, WINDOW_SLOTS_FACTOR * self.slots.get(queue, 0))
        return max(1, int(window * self.share)) - self._out[queue]

    def flush(self) -> None:
        """Publish beyond the windows, within a bound: whoever owns the executions next need not wonder."""
        self.pump(FLUSH_TASKS_MAX)

    def pump(self, beyond: int = 0) -> None:
        """Publish what the windows have room for, and so many tasks beyond.

        A slice at a time: what was published must reach its runners while the rest is being written. Later slices
        leave on the loop's next turns; all of it was committed before it came into the backlog.
        """
        left = beyond or SLICE_TASKS
        for queue, backlog in self._backlogs.items():
            if not backlog.size:
                continue
            room = self.room(queue) + beyond
            while room > 0 and left > 0 and (waiting := backlog.take()) is not None:
                live = waiting.live
                if self._live.get(live.id) is not live:
                    continue  # ended, handed over, or loaded anew since
                live.waiting -= 1
                state = live.state.nodes[waiting.node]
                if state.attempt == waiting.attempt and state.status is NodeStatus.SCHEDULED:
                    self._publish(live, queue, waiting.node, waiting.attempt)
                    room -= 1
                    left -= 1
        if left <= 0 and not beyond and not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump_on)

    def _pump_on(self) -> None:
        self._pumping = False
        self.pump()

    def publish_again(self, live: Live, node: int) -> None:
        """Publish an attempt that is known lost, under a fresh message id; the runner will ask before it runs."""
        flight = live.in_flight[node]
        if live.state.nodes[node].status in ACTIVE:
            self._publish(live, live.state.workflow.nodes[node].task_queue, node, flight.attempt)

    def _publish(self, live: Live, queue: str, node: int, attempt: int) -> None:
        flight = live.in_flight.get(node)
        if flight is None or flight.attempt != attempt:
            flight = live.in_flight[node] = InFlight(attempt, 0)
        flight.publication += 1
        flight.heard_at = flight.published_at = now = self._clock.now()
        if not flight.queue:
            flight.queue = queue
            self._out[queue] += 1
        # Fresh for every publication by every owner: de-duplication must never swallow a needed one. An attempt that
        # was given back counts its publications from the beginning, so these do not tell them apart.
        message_id = f"{live.id.hex()}-{node}-{attempt}-{self.session}.{next(self._publications)}"
        data = encode_task(self._task(live, node, flight, now))
        assert self._publisher is not None
        try:
            taken = self._publisher.publish(queue, message_id, data)
        except PayloadTooLarge:
            message = f"the task has {len(data)} bytes, more than {MESSAGE_BYTES_MAX}: its parameters refer to too much"
            error = NodeError(RESOURCE, message, retryable=False, node=node)
            self._refuse(Item(live.id, TaskRefused(node, attempt, error)))
            return
        # What the publisher cannot take now is repeated by repair, like any other publication that was lost.
        if taken:
            self._unconfirmed[message_id] = flight
        self.published += 1

    def confirmed(self, message_id: str, sequence: int, duplicate: bool) -> None:
        """The work queue holds a publication."""
        flight = self._unconfirmed.pop(message_id, None)
        if flight is not None:
            flight.sequence = sequence

    def failed(self, message_id: str, error: Exception) -> None:
        """The work queue refuses a publication for good; repair will try again under another id."""
        self._unconfirmed.pop(message_id, None)
        log.error("publication refused", message_id=message_id, error=str(error))

    def _task(self, live: Live, node: int, flight: InFlight, now: int) -> Task:
        state = live.state
        compiled, info, run = state.workflow.nodes[node], state.info, state.nodes[node]
        timeouts = compiled.timeouts
        return Task(
            execution_id=info.id,
            node=node,
            attempt=flight.attempt,
            node_id=compiled.id,
            node_name=compiled.name,
            type=compiled.type,
            parameters=compiled.parameters_json,
            bindings=task_bindings(state, node, now),
            start_to_close_us=timeouts.start_to_close_us or 0,
            heartbeat_us=timeouts.heartbeat_us or 0,
            idempotency_key=idempotency_key(info.key_root, compiled.id),
            publication=flight.publication,
            published_at=now,
            organization_id=info.organization_id,
            workflow_name=info.workflow_name,
            heartbeat_details=live.heartbeats.get(node, b""),
            slots=compiled.slots,
            sampled=self._sampled(info.id),
            counted_attempts=run.attempt - run.losses - 1,
        )

    def depths(self) -> dict[str, tuple[int, int]]:
        """For each queue: how many attempts wait, and how many are out."""
        queues = {*self._backlogs, *self._out}
        return {queue: (self._backlogs[queue].size, self._out[queue]) for queue in queues}

    def clear(self) -> None:
        """Forget everything: the session was lost."""
        self._backlogs.clear()
        self._out.clear()
        self._unconfirmed.clear()
