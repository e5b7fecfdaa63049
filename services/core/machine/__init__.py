"""The state machine of an execution: two functions.

    decide(state, input, now, draw) -> Decision     evaluates and chooses; records each choice in its events
    apply(state, event, at)                         the only code that changes state; evaluates nothing

Rule 1: every transition lives in this package. Rule 2: nothing here reads a clock, draws a random number or does
I/O; time, jitter and JSON codecs are arguments.

Theory of operation. `decide` emits events; emitting an event applies it at once, in place, so that the next choice
of the same decision sees it. `apply` resolves edges, collapses dead paths and pushes nodes whose join says *run* on
the state's ready heaps; `decide` pops them, evaluates their `when`, and emits what becomes of them, until nothing
is ready or nothing may run:

    input ─decide→ event ─apply→ edges resolve ─→ joins ─→ ready ─decide→ event … ─→ nothing open ─→ ExecutionEnded

Recovery and readers run `apply` alone over the history and reach the same state, without an expression language.

The one non-obvious interplay: after CancelRequested nothing new starts, but results of running attempts still
count until the grace is over; the end comes when nothing runs any more. Everything that arrives for an attempt that
is not the current one, or for a node that has ended, changes nothing.
"""

from services.core.machine.apply import apply
from services.core.machine.decide import Decision, Verdict, decide

__all__ = ["Decision", "Verdict", "apply", "decide"]
