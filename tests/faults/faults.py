"""Faults, and schedules of them: what is hurt, when, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.local.child import ProcessFailed
from tests.support.stack import StackUnderTest
from tests.support.waiting import pause

# Beyond the lease of a scheduler's session (6 s) and of a runner (15 s).
SCHEDULER_FROZEN_SECONDS = 12.0
RUNNER_FROZEN_SECONDS = 20.0
STARTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """`at_s`: seconds after the load began. `act` returns when the fault is over and its part works again."""

    at_s: float
    name: str
    act: Callable[[StackUnderTest], Awaitable[None]]


def kill(name: str, at_s: float) -> Fault:
    """SIGKILL; the part is started again at once, as often as it ends while what it needs is down itself."""

    async def act(stack: StackUnderTest) -> None:
        await stack.kill(name)
        for _ in range(STARTS_MAX - 1):
            with contextlib.suppress(ProcessFailed):
                await stack.restart(name)
                return
        await stack.restart(name)

    return Fault(at_s, f"kill {name}", act)


def freeze(name: str, at_s: float, seconds: float) -> Fault:
    """SIGSTOP, and SIGCONT after a time."""

    async def act(stack: StackUnderTest) -> None:
        stack.freeze(name)
        await pause(seconds)
        stack.thaw(name)

    return Fault(at_s, f"freeze {name}", act)


def wipe_nats(at_s: float) -> Fault:
    """The whole store of NATS is lost."""
    return Fault(at_s, "wipe NATS", lambda stack: stack.wipe_nats())


async def inflict(stack: StackUnderTest, faults: list[Fault]) -> None:
    """Inflict them when they are due, those that overlap at once; returns when the last is over."""

    async def one(fault: Fault) -> None:
        await pause(fault.at_s)
        await fault.act(stack)

    await asyncio.gather(*(one(fault) for fault in faults))


def one_of_each() -> list[Fault]:
    """One kill of each kind, as close together as they can be told apart; 25 s in all."""
    return [
        freeze("runner-2", 0.5, RUNNER_FROZEN_SECONDS),
        kill("runner-1", 1.0),
        kill("api-1", 3.0),
        kill("monitor-1", 4.0),
        freeze("scheduler-2", 5.0, SCHEDULER_FROZEN_SECONDS),
        kill("nats", 10.0),
        kill("postgres", 14.0),
        kill("scheduler-1", 20.0),
        wipe_nats(22.0),
    ]


def in_turn(schedulers: int, runners: int) -> list[Fault]:
    """Each service killed in turn, then the servers, the freezes and the wipe, each on its own."""
    faults: list[Fault] = []
    at = 3.0
    services = [f"scheduler-{n + 1}" for n in range(schedulers)] + [f"runner-{n + 1}" for n in range(runners)]
    for name in ("api-1", "monitor-1", *services, "nats", "postgres"):
        faults.append(kill(name, at))
        at += 8.0
    faults.append(freeze("scheduler-1", at, SCHEDULER_FROZEN_SECONDS))
    at += SCHEDULER_FROZEN_SECONDS + 4.0
    faults.append(freeze("runner-1", at, RUNNER_FROZEN_SECONDS))
    at += RUNNER_FROZEN_SECONDS + 2.0
    faults.append(wipe_nats(at))
    return [*faults, kill("scheduler-2", at + 6.0), kill("postgres", at + 8.0)]
