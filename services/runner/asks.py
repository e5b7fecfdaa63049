"""Deliveries that may not run before their owner says so: redelivered, re-published or stale ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from services.adapters.bus import Bus
from services.adapters.clock import Clock
from services.adapters.nats.topology import ASK, owner_subject
from services.adapters.wire.tasks import decode_answers, encode_ask
from services.core.ids import shard_of
from services.core.tasks import Ask
from services.runner.held import Held

REPEAT_SECONDS = 1.0


class Asks:
    """Questions without an answer; each is repeated every second while its delivery is kept alive."""

    def __init__(
        self,
        bus: Bus,
        runner_id: str,
        clock: Clock,
        on_run: Callable[[Held], None],
        on_drop: Callable[[Held], None],
    ) -> None:
        self._bus = bus
        self._runner_id = runner_id
        self._clock = clock
        self._on_run = on_run
        self._on_drop = on_drop
        self._tokens = itertools.count(1)
        self._open: dict[int, Held] = {}

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, held: Held) -> None:
        """Ask the shard's owner whether the task may run."""
        held.token = next(self._tokens)
        self._open[held.token] = held
        self._send(held)

    def forget(self, held: Held) -> None:
        """The answer does not matter any more."""
        if self._open.get(held.token) is held:
            del self._open[held.token]

    def on_answers(self, data: bytes) -> None:
        """Run or drop what owners answered; unknown and doubled tokens change nothing. Raises WireError."""
        batch = decode_answers(data)
        for token in batch.run:
            held = self._open.pop(token, None)
            if held is not None:
                self._on_run(held)
        for token in batch.drop:
            held = self._open.pop(token, None)
            if held is not None:
                self._on_drop(held)

    def repeat_due(self) -> int:
        """Ask again where no answer came within a second; how many there were."""
        now = self._clock.monotonic()
        due = [held for held in self._open.values() if held.due_at <= now]
        for held in due:
            self._send(held)
        return len(due)

    def _send(self, held: Held) -> None:
        held.due_at = self._clock.monotonic() + REPEAT_SECONDS
        self._bus.publish(
            owner_subject(shard_of(held.key[0]), ASK), encode_ask(Ask(self._runner_id, held.token, *held.key))
        )
