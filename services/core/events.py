"""Facts of an execution, past tense: all that `apply` reads, so all that recovery and readers need.

Every choice is in its event; what follows from graph and event is not. A commit's events of one execution
share its instant `at`, which the history row holds. Only ever add fields and kinds: old histories must apply.
`node` is the node's index in the definition, `attempt` counts from 1.

Nothing changes these values once they are made. They are not frozen, because a frozen dataclass costs three times as
much to make and these are made for every event.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from services.core.errors import NodeError

EVENTS_VERSION = 1


class EdgeOutcome(IntEnum):
    """What a recorded evaluation of an edge's `when` came to."""

    TAKEN = 1
    DEAD = 2
    ERROR = 3


@dataclass(slots=True)
class EdgeChoice:
    """Outcome of one edge that had a `when` to evaluate; `message` says why it is an ERROR."""

    edge: int
    outcome: EdgeOutcome
    message: str = ""


@dataclass(slots=True)
class ExecutionStarted:
    """The first decision was taken. `deadline_at`: when the execution's timeout ends it."""

    deadline_at: int


@dataclass(slots=True)
class NodeScheduled:
    """An attempt waits for a runner. `vars` is the JSON object of variables its task refers to, or empty."""

    node: int
    attempt: int
    vars: bytes = b""


@dataclass(slots=True)
class NodeStarted:
    """A runner reported that it runs the attempt."""

    node: int
    attempt: int
    runner_id: str
    started_at: int


@dataclass(slots=True)
class NodeSucceeded:
    """The node has its output. `attempt` 0: decided in the scheduler.

    `port` is the port chosen (`out` unless the type has others), `vars` the JSON object of variables written,
    `choices` the outcomes of outgoing edges with a `when`. `output` is JSON; empty stands for null.
    """

    node: int
    attempt: int
    output: bytes = b""
    port: str = "out"
    vars: bytes = b""
    choices: tuple[EdgeChoice, ...] = ()
    started_at: int = 0
    ended_at: int = 0
    runner_id: str = ""
    cpu_seconds: float = 0.0
    memory_bytes: int = 0


@dataclass(slots=True)
class NodeFailed:
    """The node failed for good. `handled`: an edge or CONTINUE took it; `choices` as in NodeSucceeded.

    `continued`: `on_error: CONTINUE` made it so. Type TIMEOUT makes the node's status TIMEOUT.
    """

    node: int
    attempt: int
    error: NodeError
    handled: bool = False
    continued: bool = False
    choices: tuple[EdgeChoice, ...] = ()
    taken: tuple[int, ...] = ()
    started_at: int = 0
    ended_at: int = 0
    runner_id: str = ""


@dataclass(slots=True)
class NodeRetrying:
    """An attempt failed and the next one starts at `retry_at` (jitter included)."""

    node: int
    attempt: int
    error: NodeError
    retry_at: int
    started_at: int = 0
    ended_at: int = 0
    runner_id: str = ""


@dataclass(slots=True)
class AttemptLost:
    """The runner of an attempt died or was cut off; the next dispatch has the next attempt number."""

    node: int
    attempt: int
    runner_id: str = ""


@dataclass(slots=True)
class AttemptReturned:
    """A draining runner gave the attempt back unrun: same attempt, waiting again."""

    node: int
    attempt: int
    runner_id: str = ""


@dataclass(slots=True)
class NodeSkipped:
    """The node's own `when` was false. Skips that follow from dead edges are not recorded."""

    node: int


@dataclass(slots=True)
class NodeWaiting:
    """The node waits for a timer until `until`."""

    node: int
    until: int
    waiting_for: str = "timer"


@dataclass(slots=True)
class CancelRequested:
    """Somebody asked for the end. Running tasks have until `grace_until`."""

    reason: str
    requested_by: str
    grace_until: int


@dataclass(slots=True)
class NodeCancelled:
    """An open node was cancelled: its runner said so, or the grace was over."""

    node: int
    attempt: int


@dataclass(slots=True)
class ExecutionEnded:
    """The one terminal event. `status` is success, failed, cancelled or timeout; open nodes are cancelled."""

    status: str
    output: bytes = b""
    error: NodeError | None = None


Event = (
    ExecutionStarted
    | NodeScheduled
    | NodeStarted
    | NodeSucceeded
    | NodeFailed
    | NodeRetrying
    | AttemptLost
    | AttemptReturned
    | NodeSkipped
    | NodeWaiting
    | CancelRequested
    | NodeCancelled
    | ExecutionEnded
)
