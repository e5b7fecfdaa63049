"""CPU, memory and what other programs took, around one measurement."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

OTHERS_SHARE_MAX = 0.08
SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Measured:
    """Wall seconds, CPU seconds of what is measured, share of the machine that other programs took, peak PSS."""

    wall_s: float
    cpu_s: float
    others_share: float
    pss_mb: float


def tree(pids: list[int]) -> list[psutil.Process]:
    """The processes and all their descendants."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                found[one.pid] = one
    return list(found.values())


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of process trees."""
    total = 0.0
    for process in tree(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            # Backends that have ended since count with their parent.
            total += times.user + times.system + times.children_user + times.children_system
    return total


def pss_mb(pids: list[int]) -> float:
    """Proportional set size of process trees."""
    total = 0
    for process in tree(pids):
        with contextlib.suppress(psutil.Error, OSError):
            total += process.memory_full_info().pss
    return total / 1024 / 1024


async def measure(pids: list[int], idle: list[int], work: Callable[[], Awaitable[None]]) -> Measured:
    """Run `work`. `idle`: processes of ours that are not measured now, yet are no "other programs"."""
    me = psutil.Process()
    peak = pss_mb(pids)

    async def watch() -> None:
        nonlocal peak
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            peak = max(peak, await asyncio.to_thread(pss_mb, pids))

    watcher = asyncio.create_task(watch())
    busy, own = _busy(), sum(me.cpu_times()[:2])
    cpu, idle_cpu = cpu_seconds(pids), cpu_seconds(idle)
    began = time.perf_counter()
    await work()
    wall = time.perf_counter() - began
    cpu = cpu_seconds(pids) - cpu
    idle_cpu = cpu_seconds(idle) - idle_cpu
    own = sum(me.cpu_times()[:2]) - own
    busy = _busy() - busy
    watcher.cancel()
    others = max(busy - cpu - idle_cpu - own, 0.0) / (wall * (psutil.cpu_count() or 1))
    return Measured(wall, cpu, others, peak)


def _busy() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
