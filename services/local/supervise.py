"""Keeps a running stack whole: a part that ends by itself is started again, with growing pauses."""

from __future__ import annotations

import asyncio

from services.local.child import ProcessFailed
from services.local.stack import Part, Report, Stack

BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 15.0
# A part that lived this long was well; its next end starts with the shortest pause again.
WELL_SECONDS = 30.0


class Supervisor:
    """Watches every part of a stack, each in a task of its own."""

    def __init__(self, stack: Stack, report: Report, *, backoff_s: float = BACKOFF_SECONDS_MIN) -> None:
        self.restarts: dict[str, int] = {part.name: 0 for part in stack.parts}
        self._stack = stack
        self._report = report
        self._backoff_s = backoff_s

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for part in self._stack.parts:
                group.create_task(self._watch(part), name=f"watch {part.name}")

    async def _watch(self, part: Part) -> None:
        loop = asyncio.get_running_loop()
        pause_s = self._backoff_s
        while True:
            started_at = loop.time()
            code = await part.wait()
            pause_s = self._backoff_s if loop.time() - started_at > WELL_SECONDS else pause_s
            self._report(part.name, f"{_ending(code)}, starts again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, BACKOFF_SECONDS_MAX)
            self.restarts[part.name] += 1
            self._report(part.name, "starting")
            try:
                await part.start()
            except ProcessFailed as error:
                self._report(part.name, str(error).splitlines()[0])
                await part.stop()  # one that never became ready is ended, and tried again like one that ended
            else:
                self._report(part.name, "ready")


def _ending(code: int) -> str:
    return f"ended with code {code}" if code >= 0 else f"killed by signal {-code}"
