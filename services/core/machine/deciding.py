"""One decision in the making: emits events, which apply at once, and collects effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from services.core.effects import CancelTask, CloseExecution, Effect
from services.core.errors import NodeError
from services.core.events import Event, ExecutionEnded
from services.core.graph import CompiledNode, References
from services.core.machine.apply import apply
from services.core.machine.bindings import bindings
from services.core.state import ExecutionState
from services.core.states import ACTIVE


class Verdict(Enum):
    """What became of an input that somebody waits to hear about."""

    COUNTED = "counted"
    STALE = "stale"
    REFUSED = "refused"


@dataclass(slots=True)
class Decision:
    """What was decided: events in order, effects for after their commit, and the verdict on the input.

    `reason` says why a command was refused (an UPPER_SNAKE word).
    """

    events: list[Event] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    verdict: Verdict = Verdict.COUNTED
    reason: str = ""


class Deciding:
    """The workbench of one call of `decide`: the state, the instant, the draw, and the decision so far."""

    __slots__ = ("decision", "draw", "now", "state")

    def __init__(self, state: ExecutionState, now: int, draw: float) -> None:
        self.state = state
        self.now = now
        self.draw = draw
        self.decision = Decision()
        state.dropped.clear()  # left by a replay; its decision is long committed

    def emit(self, event: Event) -> None:
        """Record the event and let it change the state."""
        self.decision.events.append(event)
        apply(self.state, event, self.now)
        if self.state.dropped:
            self.decision.effects.extend(CancelTask(node, attempt) for node, attempt in self.state.dropped)
            self.state.dropped.clear()

    def want(self, effect: Effect) -> None:
        """Ask for an effect after the commit."""
        self.decision.effects.append(effect)

    def stale(self) -> None:
        """The input is late, doubled or foreign."""
        self.decision.verdict = Verdict.STALE

    def refuse(self, reason: str) -> None:
        """The command does not fit the state."""
        self.decision.verdict = Verdict.REFUSED
        self.decision.reason = reason

    def see(self, references: References, viewer: CompiledNode | None = None) -> dict[str, Any]:
        """Values of the names that an expression refers to; variables as `viewer` sees them, else as they stand."""
        return bindings(self.state, references, self.now, viewer)

    def end(self, status: str, output: bytes = b"", error: NodeError | None = None) -> None:
        """End the execution; open nodes are cancelled and their runners told."""
        for index, node in enumerate(self.state.nodes):
            if node.status in ACTIVE:
                self.want(CancelTask(index, node.attempt))
        self.emit(ExecutionEnded(status, output, error))
        self.want(CloseExecution(status))
