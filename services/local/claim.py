"""Who runs a stack in a directory: a lock that its launcher holds, and a record of the processes it started.

The lock cannot outlive the launcher, so it alone tells whether one runs. The record is for what a killed launcher
may leave behind; a process counts as ours only if it started when the record says.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from services.local.files import write_private
from services.local.stack import DESCRIPTION_FILE, Stack

LOCK_FILE = "lock"
RECORD_FILE = "processes.json"
LAUNCHER = "launcher"
# Leaving takes the longest drain of a service, then NATS and PostgreSQL.
LEAVE_SECONDS = 90.0
LEFTOVER_SECONDS = 10.0
# The system computes a start from its idea of when it booted, which a corrected clock moves a little.
SAME_START_SECONDS = 2.0


class InUse(Exception):
    """A launcher runs in that directory already."""


class Claim:
    """The right to run a stack in a directory; `with Claim(directory):` holds it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1

    def __enter__(self) -> Claim:
        """Raises InUse."""
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._descriptor = os.open(self._directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            launcher = next((known for known in _record(self._directory) if known.name == LAUNCHER), None)
            who = f" (process {launcher.pid})" if launcher else ""
            raise InUse(f"a stack runs in {self._directory} already{who}; `make down` ends it") from None
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Let go; the next may come."""
        (self._directory / RECORD_FILE).unlink(missing_ok=True)
        (self._directory / DESCRIPTION_FILE).unlink(missing_ok=True)
        os.close(self._descriptor)

    def record(self, stack: Stack) -> None:
        """Note the processes that run now."""
        pids = {LAUNCHER: os.getpid(), **{part.name: part.pid for part in stack.parts if part.running}}
        entries = []
        for name, pid in pids.items():
            try:
                entries.append({"name": name, "pid": pid, "started_at": psutil.Process(pid).create_time()})
            except psutil.NoSuchProcess:
                continue  # it has just ended
        write_private(self._directory / RECORD_FILE, json.dumps(entries, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class Known:
    """A process of the record that still is the one that was started."""

    name: str
    pid: int
    process: psutil.Process


def end_stack(directory: Path) -> list[str]:
    """End the stack of a directory, whether its launcher lives or not; names of the processes that were ended."""
    known = _record(directory)
    launcher = next((one for one in known if one.name == LAUNCHER), None)
    ended: list[str] = []
    if launcher is not None:
        _send(launcher, signal.SIGTERM)
        if psutil.wait_procs([launcher.process], LEAVE_SECONDS)[1]:
            _send(launcher, signal.SIGKILL)
        ended.append(launcher.name)
    # What is left has lost its launcher. PostgreSQL goes last, and in order.
    left = [one for one in known if one.name != LAUNCHER and one.process.is_running()]
    for one in left:
        _send(one, signal.SIGINT if one.name == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs([one.process for one in left], LEFTOVER_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, LEFTOVER_SECONDS)
    ended += [one.name for one in left]
    (directory / RECORD_FILE).unlink(missing_ok=True)
    (directory / DESCRIPTION_FILE).unlink(missing_ok=True)
    return ended


def _record(directory: Path) -> list[Known]:
    """Processes of the record that live and started when it says."""
    try:
        entries = json.loads((directory / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    known = []
    for entry in entries:
        try:
            process = psutil.Process(entry["pid"])
            same = abs(process.create_time() - entry["started_at"]) < SAME_START_SECONDS
            if same and process.status() != psutil.STATUS_ZOMBIE:
                known.append(Known(entry["name"], entry["pid"], process))
        except psutil.NoSuchProcess:
            continue
    return known


def _send(known: Known, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        known.process.send_signal(number)
