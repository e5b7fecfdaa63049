"""What can go wrong, as values: errors of nodes and executions, and problems of what a client sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

VALIDATION = "VALIDATION"
NODE_EXECUTION = "NODE_EXECUTION"
NETWORK = "NETWORK"
TIMEOUT = "TIMEOUT"
RESOURCE = "RESOURCE"
EXPRESSION = "EXPRESSION"
CIRCUIT_OPEN = "CIRCUIT_OPEN"
CANCELLED = "CANCELLED"
POISON = "POISON"

# Types that no policy retries.
NEVER_RETRIED = frozenset({VALIDATION, EXPRESSION, CANCELLED, POISON})


@dataclass(frozen=True, slots=True)
class NodeError:
    """Why an attempt, a node or an execution failed.

    `type` is one of the names above or the handler's own; `details` is JSON bytes or empty; `timeout` names
    the timeout that ended it when `type` is TIMEOUT (`start_to_close`, `heartbeat`, `schedule_to_start`,
    `schedule_to_close`, `execution`); `retry_after_us` is the failure's own delay, 0 for none; `node` is the
    index of the node in an execution's error, -1 when no node is to blame.
    """

    type: str
    message: str
    details: bytes = b""
    retryable: bool = True
    timeout: str = ""
    retry_after_us: int = 0
    node: int = -1


class Severity(Enum):
    """How bad a problem is: an ERROR refuses the request, a WARNING is shown."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with what a client sent.

    `path` is the field (`nodes[3].retry_policy.base_delay`), `reason` a stable UPPER_SNAKE word
    (`UNKNOWN_NODE`), `message` a sentence that says what to do.
    """

    path: str
    reason: str
    message: str
    severity: Severity = Severity.ERROR


class ExpressionError(Exception):
    """An expression could not be compiled or evaluated; the text names it, the types and the cure."""
