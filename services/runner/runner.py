"""All parts of a runner, put together: what `main` starts and drains, and what tests start in their own process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from services.adapters.bus import Bus, BusError, Delivery, TaskPuller
from services.adapters.clock import SystemClock
from services.adapters.log import get_logger
from services.adapters.nats.topology import ANSWER, LOG, VERDICT, owner_subject, runner_subject
from services.adapters.wire.tasks import WireError
from services.core.expressions import ExpressionCompiler
from services.runner.attempt_log import LogShipper
from services.runner.attempts import Attempts
from services.runner.drain import Drain
from services.runner.duties.repeats import Repeats
from services.runner.handlers import Handlers
from services.runner.held import HeldTasks
from services.runner.intake import Intake
from services.runner.metrics import RunnerMetrics
from services.runner.outbox import Outbox
from services.runner.parameters import Parameters
from services.runner.pulse import Announcement, Connect, Pulse
from services.runner.sampling import Sampler
from services.runner.threads import HandlerThreads

# How long the owner may take to store a chunk of log lines before it is sent again.
LOG_REPLY_SECONDS = 2.0

log = get_logger(__name__)


class Runner:
    """A runner on a bus. Order of life: `start`, `pull_from`, `drain`."""

    def __init__(
        self,
        runner_id: str,
        bus: Bus,
        connect_pulse: Connect,
        handlers: Handlers,
        compiler: ExpressionCompiler,
        clock: SystemClock,
        registry: CollectorRegistry,
        *,
        slots: int,
        queues: Sequence[str],
        drain_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._bus = bus
        self._drain_s = drain_s
        draw = random.Random().random
        self.held = HeldTasks(slots)
        self.metrics = RunnerMetrics(registry, self.held)
        self.announcement = Announcement(runner_id, slots, tuple(queues), handlers.types)
        self.intake = Intake(bus, runner_id, self.held, handlers, clock, self.metrics, draw)
        self.outbox = Outbox(loop, bus, runner_id, clock, self.intake.settled, draw)
        self.metrics.watch(lambda: len(self.outbox), lambda: len(self.intake.asks))
        self.shipper = LogShipper(loop, self._send_lines, clock, draw)
        sampler = Sampler(clock.monotonic)
        self.attempts = Attempts(
            loop,
            self.held,
            Parameters(compiler),
            self.outbox,
            self.shipper,
            HandlerThreads(loop, slots),
            sampler,
            clock,
            self.metrics,
            self.intake.begin_waiting,
        )
        self.intake.connect(self.attempts)
        self.pulse = Pulse(connect_pulse, self.held, self.announcement, self.intake.cancel, clock, sampler)
        self.repeats = Repeats(self.outbox, self.intake.asks, self.metrics)
        self._puller: TaskPuller | None = None

    @property
    def runner_id(self) -> str:
        """Its name, new at each start."""
        return self.announcement.runner_id

    async def start(self) -> None:
        """Listen to owners and start the pulse. Raises `Disconnected`."""
        bus, runner_id = self._bus, self.runner_id
        bus.subscribe(runner_subject(runner_id, VERDICT), self._on_verdicts)
        bus.subscribe(runner_subject(runner_id, ANSWER), self._on_answers)
        # Before the first task asks for an answer, the server must know where it goes.
        await bus.flush()
        await self.pulse.start()

    async def pull_from(self, puller: TaskPuller) -> None:
        """Begin to take tasks; the puller hands them to `deliver`."""
        self._puller = puller
        await puller.start()

    def deliver(self, delivery: Delivery) -> None:
        """Take one task."""
        self.intake.deliver(delivery)

    async def drain(self) -> dict[str, int]:
        """End gracefully; see `Drain`. The bus stays open."""
        counts: dict[str, int] = {}
        if self._puller is not None:
            drain = Drain(
                self._puller, self.intake, self.attempts, self.held, self._announce_drain, self._drain_s
            )
            counts = await drain.run()
        await self.pulse.stop()
        return counts

    def _announce_drain(self) -> None:
        self.announcement.draining = True
        self.pulse.beat_soon()

    def _on_verdicts(self, data: bytes, reply: str, subject: str) -> None:
        try:
            self.outbox.on_verdicts(data)
        except WireError:
            log.warning("malformed verdicts", subject=subject)

    def _on_answers(self, data: bytes, reply: str, subject: str) -> None:
        try:
            self.intake.asks.on_answers(data)
        except WireError:
            log.warning("malformed answers", subject=subject)

    async def _send_lines(self, shard: int, chunk: bytes) -> bool:
        try:
            await self._bus.request(owner_subject(shard, LOG), chunk, LOG_REPLY_SECONDS)
        except BusError as error:
            log.debug("log lines were not taken", shard=shard, error=str(error))
            return False
        return True
