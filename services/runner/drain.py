"""A runner's graceful end: nothing new, what has not begun goes back, what runs may finish, results are settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.adapters.bus import TaskPuller
from services.adapters.log import get_logger
from services.runner.attempts import Attempts
from services.runner.held import HeldTasks, Stage
from services.runner.intake import Intake

# How long results may wait for their verdicts once no handler runs any more.
SETTLE_SECONDS = 10.0
PULLER_SECONDS = 2.0

log = get_logger(__name__)


def seconds_max(grace_s: float) -> float:
    """Longest time that a drain takes."""
    return grace_s + SETTLE_SECONDS + PULLER_SECONDS + 5.0


class Drain:
    """The steps, in order; each is bounded."""

    def __init__(
        self,
        puller: TaskPuller,
        intake: Intake,
        attempts: Attempts,
        held: HeldTasks,
        announce: Callable[[], None],
        grace_s: float,
    ) -> None:
        self._puller = puller
        self._intake = intake
        self._attempts = attempts
        self._held = held
        self._announce = announce
        self._grace_s = grace_s

    async def run(self) -> dict[str, int]:
        """Drain; returns how many tasks went which way."""
        self._intake.draining = True
        self._announce()
        waiting = self._intake.give_back_waiting()
        running = self._held.active
        await self._puller.drain(PULLER_SECONDS)
        await self._finish_running()
        returned = self._give_back_running()
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._held.until(self._held.all_settled)
        except TimeoutError:
            # The owners will hear nothing of these; their leases end, and they run again as next attempts.
            log.warning("results without verdict at the end of the drain", results=len(self._held.by_key))
        counts = {"waiting": waiting, "finished": running - returned, "returned": returned}
        log.info("drained", **counts)
        return counts

    async def _finish_running(self) -> None:
        try:
            async with asyncio.timeout(self._grace_s):
                await self._held.until(self._held.all_reported)
        except TimeoutError:
            log.warning("handlers still run at the end of the grace", grace_seconds=self._grace_s)

    def _give_back_running(self) -> int:
        running = [held for held in self._held.snapshot() if held.stage is Stage.RUNNING]
        for held in running:
            self._attempts.give_back(held)
        return len(running)
