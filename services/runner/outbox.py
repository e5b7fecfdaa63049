"""Results on their way to the owners of their shards: sent in batches, repeated until a verdict comes.

At least once: no answer, "not mine" or a dead owner is never a reason to drop a result. A verdict, counted or
stale, is the only thing that settles one, and only then is its task acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from services.adapters.bus import Bus
from services.adapters.clock import Clock
from services.adapters.log import get_logger
from services.adapters.nats.topology import RESULT, owner_subject
from services.adapters.wire.tasks import decode_verdicts, encode_result, join_results
from services.core.ids import shard_of
from services.core.tasks import MESSAGE_BYTES_MAX, Failure, Result
from services.core.units import KIB
from services.runner.held import Held

FIRST_REPEAT_SECONDS = 1.0
REPEAT_SECONDS = 2.0
REPEAT_JITTER = 0.25
# Room for the runner's name and the batch's own framing.
BATCH_BYTES_MAX = MESSAGE_BYTES_MAX - 4 * KIB

log = get_logger(__name__)


class Outbox:
    """Results that are not settled."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bus: Bus,
        runner_id: str,
        clock: Clock,
        on_settled: Callable[[Held, bool], None],
        draw: Callable[[], float],
    ) -> None:
        self._draw = draw
        self._loop = loop
        self._bus = bus
        self._runner_id = runner_id
        self._clock = clock
        self._on_settled = on_settled
        self._tokens = itertools.count(1)
        self._unconfirmed: dict[int, Held] = {}
        self._batches: dict[int, list[bytes]] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self.repeated = 0

    def __len__(self) -> int:
        return len(self._unconfirmed)

    def add(self, held: Held, ended_at: int, outcome: bytes | Failure | None) -> None:
        """Send a result with the next batch: an output, a failure, or None for a task given back."""
        token = next(self._tokens)
        output = outcome if isinstance(outcome, bytes) else None
        failure = outcome if isinstance(outcome, Failure) else None
        held.token = token
        held.result = encode_result(
            Result(
                token, *held.key, held.started_at, ended_at, output, failure, outcome is None,
                held.cpu_seconds, held.memory_bytes,
            )
        )  # fmt: skip
        held.due_at = self._clock.monotonic() + FIRST_REPEAT_SECONDS
        self._unconfirmed[token] = held
        self._empty.clear()
        self._enqueue(held)

    def on_verdicts(self, data: bytes) -> None:
        """Settle what owners decided; unknown and doubled tokens change nothing. Raises WireError."""
        batch = decode_verdicts(data)
        for token in batch.counted:
            self._settle(token, counted=True)
        for token in batch.stale:
            self._settle(token, counted=False)

    def repeat_due(self) -> int:
        """Send again what waits for its verdict for too long; how many there were."""
        now = self._clock.monotonic()
        due = [held for held in self._unconfirmed.values() if held.due_at <= now]
        for held in due:
            held.due_at = now + REPEAT_SECONDS * (1 + REPEAT_JITTER * (2 * self._draw() - 1))
            self._enqueue(held)
        self.repeated += len(due)
        return len(due)

    async def emptied(self) -> None:
        """Return when every result is settled."""
        await self._empty.wait()

    def _settle(self, token: int, *, counted: bool) -> None:
        held = self._unconfirmed.pop(token, None)
        if held is None:
            return
        held.result = b""
        for delivery in held.deliveries:
            delivery.ack()
        if not self._unconfirmed:
            self._empty.set()
        self._on_settled(held, counted)

    def _enqueue(self, held: Held) -> None:
        if not self._batches:
            self._loop.call_soon(self._flush)
        shard = shard_of(held.key[0])
        batch = self._batches.get(shard)
        if batch is None:
            self._batches[shard] = [held.result]
        else:
            batch.append(held.result)

    def _flush(self) -> None:
        """Send what finished in this turn of the loop, a message for each shard."""
        batches, self._batches = self._batches, {}
        for shard, results in batches.items():
            if len(results) == 1:
                self._send(shard, results)
                continue
            batch: list[bytes] = []
            size = 0
            for result in results:
                size += len(result) + 8
                if batch and size > BATCH_BYTES_MAX:
                    self._send(shard, batch)
                    batch, size = [], len(result) + 8
                batch.append(result)
            self._send(shard, batch)

    def _send(self, shard: int, results: list[bytes]) -> None:
        # A message that is dropped here is repeated like one that is lost on the way.
        self._bus.publish(owner_subject(shard, RESULT), join_results(self._runner_id, results))
