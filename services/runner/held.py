"""The tasks that a runner has in hand.

A task is held from its delivery until its verdict, and takes its slots from its delivery until its handler has
really ended: a thread cannot be stopped, so an abandoned handler keeps its slots although its attempt has been
reported. Changed by the main loop alone; the pulse's thread reads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from services.adapters.bus import Delivery
from services.core.tasks import AttemptKey, Task

if TYPE_CHECKING:
    from services.runner.attempt_log import AttemptLog
    from services.runner.context import AttemptContext


class Stage(IntEnum):
    """How far a held task is."""

    WAITING = 0  # not begun: asked about, or out of slots
    RUNNING = 1
    ENDED = 2  # its result is known and waits for the verdict


class Held:
    """One task in hand."""

    __slots__ = (
        "context", "cpu_seconds", "deliveries", "due_at", "heartbeat_at", "heartbeat_json", "key",
        "log", "memory_bytes", "result", "runs", "slots", "stage", "start_told", "started_at", "started_monotonic",
        "stopping", "task", "timers", "token", "work",
    )  # fmt: skip

    def __init__(self, task: Task, delivery: Delivery, slots: int) -> None:
        self.task = task
        self.key: AttemptKey = (task.execution_id, task.node, task.attempt)
        # All are acknowledged together; there are several after a redelivery or a re-publication.
        self.deliveries = [delivery]
        self.slots = slots
        self.stage = Stage.WAITING
        # True while its handler runs, reported or not.
        self.runs = False
        # True once its handler was told to end.
        self.stopping = False
        # Number that an ask or a result carries, and its answer names.
        self.token = 0
        # When its ask or result is repeated, monotonic seconds.
        self.due_at = 0.0
        self.started_at = 0
        self.started_monotonic = 0.0
        # Whether the pulse has told owners of the start.
        self.start_told = False
        # JSON of the handler's last heartbeat.
        self.heartbeat_json = b""
        self.heartbeat_at = 0.0
        self.context: AttemptContext | None = None
        self.log: AttemptLog | None = None
        self.work: asyncio.Task[None] | None = None
        self.timers: list[asyncio.TimerHandle] | None = None
        # Encoded result, once known.
        self.result = b""
        self.cpu_seconds = 0.0
        self.memory_bytes = 0

    def cancel_timers(self) -> None:
        """No timeout can fire any more."""
        if self.timers is not None:
            for timer in self.timers:
                timer.cancel()
            self.timers = None


# Tasks held for each slot, results without a verdict included, up to which new ones are pulled.
HELD_PER_SLOT_MAX = 4


class HeldTasks:
    """Registry of held tasks, and admission to the slots."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._held_max = slots * HELD_PER_SLOT_MAX
        self.by_key: dict[AttemptKey, Held] = {}
        # Slots of handlers that run.
        self.running = 0
        # Handlers that still run although their attempt was reported.
        self.abandoned = 0
        # Attempts that run and are not reported.
        self.active = 0
        self._line: deque[Held] = deque()
        self._changed: asyncio.Event | None = None

    def snapshot(self) -> list[Held]:
        """All held tasks; safe in any thread, since copying a dictionary's values never lets go of the GIL."""
        return list(self.by_key.values())

    def take(self, task: Task, delivery: Delivery) -> Held:
        """Hold a delivered task."""
        held = Held(task, delivery, min(max(task.slots, 1), self.slots))
        if held.slots > 1:
            delivery.take(held.slots)
        self.by_key[held.key] = held
        return held

    def admit(self, held: Held) -> bool:
        """Whether the task may begin now; if not it stands in line for `next_admitted`."""
        if self._line or self.running + held.slots > self.slots:
            self._line.append(held)
            return False
        return True

    @property
    def has_line(self) -> bool:
        """Whether tasks stand in line."""
        return bool(self._line)

    def next_admitted(self) -> Held | None:
        """Next task in line that fits, if any."""
        line = self._line
        while line and (line[0].stage is not Stage.WAITING or line[0].key not in self.by_key):
            line.popleft()
        if line and self.running + line[0].slots <= self.slots:
            return line.popleft()
        return None

    def begun(self, held: Held) -> None:
        """Its handler starts."""
        held.stage = Stage.RUNNING
        held.runs = True
        self.running += held.slots
        self.active += 1

    def ended(self, held: Held) -> None:
        """Its result is known; its handler may run on."""
        if held.stage is Stage.RUNNING:
            self.active -= 1
        held.stage = Stage.ENDED
        if held.runs:
            self.abandoned += 1
        if self._changed is not None:
            self._changed.set()

    def handler_ended(self, held: Held) -> None:
        """Its handler is really over: its slots are free."""
        held.runs = False
        self.running -= held.slots
        if held.stage is Stage.ENDED:
            self.abandoned -= 1
        # Its slot may be filled again before its verdict, unless owners are silent and results pile up.
        if len(self.by_key) <= self._held_max:
            held.deliveries[0].release()

    def forget(self, held: Held) -> None:
        """It is settled: not held any more."""
        if self.by_key.get(held.key) is held:
            del self.by_key[held.key]
        if self._changed is not None:
            self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when `holds()` is true; looked at whenever an attempt is reported or settled."""
        self._changed = changed = self._changed or asyncio.Event()
        while not holds():
            changed.clear()
            await changed.wait()

    def all_reported(self) -> bool:
        """True when no attempt runs unreported."""
        return self.active == 0

    def all_settled(self) -> bool:
        """True when nothing is held."""
        return not self.by_key
