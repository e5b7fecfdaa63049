"""`up`: a stack in the foreground, until it is told to end. `down`: the end of one that was left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from services.local.child import ProcessFailed
from services.local.claim import Claim, InUse, end_stack
from services.local.screen import LiveScreen, PlainScreen, Screen, address_of, on_terminal
from services.local.stack import Report, Stack
from services.local.supervise import Supervisor

EXIT_FAILED = 1
EXIT_IN_USE = 3
EXIT_AT_ONCE = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Leave:
    """Waits for the signal to end; a second one ends at once, and the kernel ends our children with us."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._ask)

    async def asked(self) -> None:
        """Return once somebody wants us to end."""
        await self._asked.wait()

    def _ask(self) -> None:
        if self._asked.is_set():
            os._exit(EXIT_AT_ONCE)
        self._asked.set()


class Up:
    """One run of a stack in the foreground."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._supervisor: Supervisor | None = None

    async def run(self) -> int:
        """Exit code, once told to end or when it could not start."""
        leave = Leave()
        try:
            with Claim(self._stack.directory) as claim, self._screen() as screen:
                return await self._live(claim, screen, leave)
        except InUse as error:
            print(error)
            return EXIT_IN_USE

    async def _live(self, claim: Claim, screen: Screen, leave: Leave) -> int:
        def report(name: str, what: str) -> None:
            claim.record(self._stack)
            screen.report(name, what)

        claim.record(self._stack)
        self._stack.report = report
        leaving = asyncio.create_task(leave.asked())
        working = asyncio.create_task(self._work(screen, report))
        try:
            await asyncio.wait([leaving, working], return_when=asyncio.FIRST_COMPLETED)
            if working.done() and (error := working.exception()) is not None:
                raise error
            return 0
        except ProcessFailed as error:
            screen.say(str(error))
            return EXIT_FAILED
        finally:
            for task in (leaving, working):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ProcessFailed):
                    await task
            await self._stack.stop()

    async def _work(self, screen: Screen, report: Report) -> None:
        await self._stack.start()
        path = self._stack.write_description()
        screen.say(f"Everything is ready; addresses and a token are in {_shown(path)}. Ctrl-C ends it.")
        self._supervisor = Supervisor(self._stack, report)
        await self._supervisor.run()

    def _screen(self) -> Screen:
        if on_terminal():
            return LiveScreen(self._stack, lambda: self._supervisor)
        return PlainScreen(address_of(self._stack))


def up(directory: Path, counts: Mapping[str, int], env: Mapping[str, str]) -> int:
    """Run a stack in the foreground; exit code."""
    return asyncio.run(Up(Stack(directory, counts=counts, env=env)).run())


def down(directory: Path) -> int:
    """End a stack that runs, or what is left of one; exit code."""
    ended = end_stack(directory)
    print(f"ended: {', '.join(ended)}" if ended else f"no stack runs in {directory}")
    return 0


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
