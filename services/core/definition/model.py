"""A definition as values: exactly what `semantics` allows a definition to say, parsed and typed.

Field names and their order follow the plain shape (YAML, JSON, protobuf). JSON values (parameters, vars,
output …) are plain Python JSON: dict, list, str, int, float, bool, None. Durations are microseconds; `None`
means absent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Json = Any


class Strategy(Enum):
    """How ready nodes are run."""

    PARALLEL = "PARALLEL"
    SEQUENTIAL = "SEQUENTIAL"


class Join(Enum):
    """When a node with several incoming edges is decided."""

    ALL_DONE = "ALL_DONE"
    ALL_TAKEN = "ALL_TAKEN"
    ANY = "ANY"
    QUORUM = "QUORUM"


class Backoff(Enum):
    """How the delay between attempts grows."""

    FIXED = "FIXED"
    LINEAR = "LINEAR"
    EXPONENTIAL = "EXPONENTIAL"


class OnError(Enum):
    """What becomes of the execution when a node fails and nothing handles it."""

    FAIL = "FAIL"
    CONTINUE = "CONTINUE"


class Priority(Enum):
    """Share of the slots while all wait: 8 : 4 : 2 : 1."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    NORMAL = "NORMAL"
    LOW = "LOW"


class Rollback(Enum):
    """When an execution undoes what it did."""

    NONE = "NONE"
    ON_FAILURE = "ON_FAILURE"
    ON_FAILURE_OR_CANCEL = "ON_FAILURE_OR_CANCEL"
    MANUAL = "MANUAL"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often a failed attempt is followed by another; absent fields take the page's defaults."""

    max_attempts: int | None = None
    backoff: Backoff | None = None
    base_delay_us: int | None = None
    coefficient: float | None = None
    max_delay_us: int | None = None
    jitter: float | None = None
    retryable_errors: tuple[str, ...] = ()
    non_retryable_errors: tuple[str, ...] = ()
    max_elapsed_us: int | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of a node; `None`: none of its own."""

    schedule_to_start_us: int | None = None
    start_to_close_us: int | None = None
    schedule_to_close_us: int | None = None
    heartbeat_us: int | None = None


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Breaker that guards a node's calls."""

    key: str = ""
    failure_threshold: int | None = None
    failure_rate: float | None = None
    minimum_calls: int | None = None
    window_us: int | None = None
    call_timeout_us: int | None = None
    reset_timeout_us: int | None = None
    probes: int | None = None


@dataclass(frozen=True, slots=True)
class InlineNode:
    """A node outside the graph: a fallback or a compensation."""

    type: str
    parameters: Json = None
    retry_policy: RetryPolicy | None = None
    timeouts: Timeouts | None = None
    compensate_with: InlineNode | None = None


@dataclass(frozen=True, slots=True)
class Fallback:
    """What stands in for a node that failed: a value or an inline node."""

    value: Json = None
    has_value: bool = False
    node: InlineNode | None = None


@dataclass(frozen=True, slots=True)
class ToleratedFailures:
    """How many iterations of a map may fail: a count or a percentage."""

    count: int | None = None
    percent: float | None = None


@dataclass(frozen=True, slots=True)
class ForEach:
    """Maps the node over a list."""

    items: str
    max_concurrency: int | None = None
    batch_size: int | None = None
    tolerated_failures: ToleratedFailures | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """Runs the node again until an expression holds."""

    until: str
    max_iterations: int | None = None
    delay_us: int | None = None


@dataclass(frozen=True, slots=True)
class Cache:
    """Reuses an earlier successful output for the same key."""

    key: str
    ttl_us: int | None = None
    scope: str = "WORKFLOW"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task takes of a runner."""

    slots: int = 1


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the graph."""

    id: str
    type: str
    name: str = ""
    parameters: Json = None
    when: str = ""
    join: Join = Join.ALL_DONE
    quorum: int = 0
    cancel_others: bool = False
    retry_policy: RetryPolicy | None = None
    timeouts: Timeouts | None = None
    circuit_breaker: CircuitBreaker | None = None
    fallback: Fallback | None = None
    on_error: OnError = OnError.FAIL
    for_each: ForEach | None = None
    repeat: Repeat | None = None
    cache: Cache | None = None
    compensate_with: InlineNode | None = None
    task_queue: str = ""
    priority: Priority | None = None
    resources: Resources | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge of the graph; `port` is `out` unless said otherwise."""

    source: str
    target: str
    port: str = "out"
    when: str = ""
    error_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many executions of one key may be open."""

    key: str
    limit: int
    over: str = "QUEUE"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many executions of one key may start in a period."""

    key: str
    count: int
    period_us: int
    burst: int | None = None


@dataclass(frozen=True, slots=True)
class OnFailure:
    """Workflow started, detached, when an execution fails."""

    workflow: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Whom to tell of an end: a signed HTTP call or a NATS subject."""

    states: tuple[str, ...] = ()
    url: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """A whole workflow definition."""

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    description: str = ""
    input_schema: Json = None
    vars: dict[str, Json] = field(default_factory=dict)
    output: Json = None
    strategy: Strategy = Strategy.PARALLEL
    max_parallel_nodes: int = 0
    timeout_us: int | None = None
    default_retry_policy: RetryPolicy | None = None
    concurrency: Concurrency | None = None
    rate_limit: RateLimit | None = None
    on_failure: OnFailure | None = None
    cleanup: tuple[Node, ...] = ()
    rollback: Rollback = Rollback.NONE
    notify: Notify | None = None
    labels: dict[str, str] = field(default_factory=dict)
    retention_us: int | None = None
