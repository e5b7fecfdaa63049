"""One process that we start, watch and end, and that ends with us even when we are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")
LOG_BYTES_MAX = 64 * 1024 * 1024
TAIL_LINES = 15
_TAIL_BYTES = 64 * 1024
_POLL_SECONDS = 0.02


class ProcessFailed(Exception):
    """A process did not start, or ended when it must not; the text says which, and the end of its log."""


@dataclass(frozen=True, slots=True)
class RunAs:
    """As which user a process runs: ours, another (`user`), or ours under another name (`namespace`)."""

    how: str = "self"
    uid: int = 0
    gid: int = 0

    def options(self) -> list[str]:
        """Options of the leash."""
        return [] if self.how == "self" else [f"--{self.how}", f"{self.uid}:{self.gid}"]


SELF = RunAs()


class Child:
    """A process with a log file. Start it from a thread that lives as long as it must, best the main one:
    the kernel counts the death of the thread that started it as the launcher's.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        run_as: RunAs = SELF,
    ) -> None:
        self.name = name
        self.log = log
        self.command = list(command)
        self.env = dict(os.environ if env is None else env)
        self._cwd = cwd
        self._death_signal = death_signal
        self._run_as = run_as
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it prints is appended to the log."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        leash = [sys.executable, "-I", "-S", str(LEASH), "--launcher", str(os.getpid())]
        leash += ["--signal", str(int(self._death_signal)), *self._run_as.options(), "--"]
        with open(self.log, "ab", opener=_private) as output:
            # A session of its own: Ctrl-C in the terminal is for the launcher, which ends its children in order.
            self._process = subprocess.Popen(
                leash + self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.env,
                cwd=self._cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the last start. Raises RuntimeError before the first."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True from `start` until it has ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code (negative: the signal) of the last start, None while it runs or before."""
        return None if self._process is None else self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended (its id cannot have been given away: we reap it)."""
        if self._process is not None:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """Exit code, once it has ended."""
        process = self._process
        if process is None:
            raise RuntimeError(f"{self.name} was not started")
        while (code := process.poll()) is None:
            await ended(process.pid)
        return code

    async def stop(self, number: signal.Signals = signal.SIGTERM, grace_s: float = 25.0) -> int | None:
        """End it: the signal, then SIGKILL after `grace_s`. Returns the exit code, None if it never ran."""
        if not self.running:
            return self.returncode
        self.send(number)
        self.send(signal.SIGCONT)  # a stopped process would not notice
        try:
            return await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.wait()

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of the log."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def failure(self, what: str) -> ProcessFailed:
        """Error that says what went wrong with this process and shows the end of its log."""
        tail = self.tail()
        return ProcessFailed(f"{self.name} {what}" + (f"; the end of {self.log}:\n{tail}" if tail else ""))


async def ended(pid: int) -> None:
    """Return when the process has ended, or a little later than now where the kernel cannot tell: look again."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        await asyncio.sleep(_POLL_SECONDS)
        return
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
