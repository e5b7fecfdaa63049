"""The call a servicer is serving: who asks, under which request id, and how much time is left."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from services.adapters.clock import Clock
from services.adapters.tokens import Identity

NOBODY = Identity("", "")


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC. `deadline` is on the monotonic clock in seconds; infinite for streams without one."""

    identity: Identity
    request_id: str
    deadline: float
    clock: Clock

    def remaining_s(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(self.deadline - self.clock.monotonic(), 0.0)


_CURRENT: ContextVar[Call] = ContextVar("weconnect_call")


def current_call() -> Call:
    """The call that the running task serves. Raises LookupError outside of one."""
    return _CURRENT.get()


def enter_call(call: Call) -> None:
    """Make it the current call of the running task; each RPC has a task of its own."""
    _CURRENT.set(call)
