"""`decide`: dispatches an input to its family of transitions, then runs on until nothing more can be decided."""

from __future__ import annotations

from typing import assert_never

from services.core import inputs
from services.core.machine import attempts, lifecycle, ready
from services.core.machine.deciding import Deciding, Decision, Verdict
from services.core.state import ExecutionState

__all__ = ["Decision", "Verdict", "decide"]


def decide(state: ExecutionState, happened: inputs.Input, now: int, draw: float = 0.5) -> Decision:
    """Decide what follows from one input at instant `now`; `draw` in [0, 1) is the jitter.

    Advances `state` in place. `state.missing_outputs()` must be empty. An exception means a bug or a corrupt
    history: the state is void then, and the shell quarantines the execution.
    """
    deciding = Deciding(state, now, draw)
    if state.status.final:
        deciding.stale()
        if isinstance(happened, inputs.Cancel):
            deciding.refuse("EXECUTION_ENDED")
        return deciding.decision
    match happened:
        case inputs.TaskSucceeded():
            attempts.succeeded(deciding, happened)
        case inputs.Begin():
            lifecycle.begin(deciding)
        case inputs.TaskStarted():
            attempts.started(deciding, happened)
        case inputs.TaskFailed():
            attempts.failed(deciding, happened)
        case inputs.TaskReturned():
            attempts.returned(deciding, happened)
        case inputs.TaskLost():
            attempts.lost(deciding, happened)
        case inputs.TaskRefused():
            attempts.refused(deciding, happened)
        case inputs.TimersDue():
            lifecycle.timers_due(deciding)
        case inputs.Cancel():
            lifecycle.cancel(deciding, happened)
        case inputs.Abort():
            lifecycle.abort(deciding, happened)
        case _:
            assert_never(happened)
    if deciding.decision.events:
        ready.run(deciding)
    return deciding.decision
