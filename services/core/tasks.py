"""What schedulers and runners say to each other, as values: tasks, results, heartbeats, asks, logs.

They mirror `weconnect.internal.v1` with the attempt's reference flattened to `execution_id` (16 raw bytes of a
UUIDv7), `node` (index in the version's definition) and `attempt` (from 1). Every message may be lost, doubled,
late or reordered. Instants are microseconds since the Unix epoch in database time, durations microseconds.
`adapters.wire.tasks` turns them into bytes and back.

Nothing changes these values once they are made. They are not frozen, because a frozen dataclass costs three times as
much to make and these are made for every event.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.units import KIB, MIB, SECOND

# A whole message between a scheduler and a runner.
MESSAGE_BYTES_MAX = 512 * KIB
# A value that travels inline.
VALUE_BYTES_MAX = 256 * KIB
LOG_LINE_BYTES_MAX = 32 * KIB
LOG_CHUNK_BYTES_MAX = 256 * KIB
LOG_ATTEMPT_BYTES_MAX = 10 * MIB

# A publication older than this is asked about before it runs.
FRESH_US = 5 * SECOND
# A task unheard of for this long is lost, in the owner's memory.
LEASE_US = 15 * SECOND
# A runner reports all that it holds this often.
BEAT_US = 5 * SECOND
# A cancelled handler has this long to end by itself.
CANCEL_GRACE_US = 10 * SECOND

# Names of the timeouts that a runner keeps; the details of its TIMEOUT failures hold them.
START_TO_CLOSE = "start_to_close"
HEARTBEAT = "heartbeat"

DEBUG, INFO, WARN, ERROR = 1, 2, 3, 4

AttemptKey = tuple[bytes, int, int]


@dataclass(slots=True, unsafe_hash=True)
class AttemptRef:
    """Names one attempt of one node of one execution."""

    execution_id: bytes
    node: int
    attempt: int


@dataclass(slots=True)
class Task:
    """Asks a runner for one attempt. Set by the scheduler; fields as in `task.proto`.

    `parameters` is JSON with `${ }` unresolved, the same bytes for every execution of a version; `bindings` the
    JSON object of the values that they refer to; `heartbeat_details` JSON of the attempt before, or empty.
    """

    execution_id: bytes
    node: int
    attempt: int
    node_id: str
    node_name: str
    type: str
    parameters: bytes = b""
    bindings: bytes = b""
    start_to_close_us: int = 0
    heartbeat_us: int = 0
    idempotency_key: str = ""
    publication: int = 1
    published_at: int = 0
    organization_id: str = ""
    workflow_name: str = ""
    heartbeat_details: bytes = b""
    slots: int = 1
    sampled: bool = False
    counted_attempts: int = 0


@dataclass(slots=True)
class Failure:
    """Why an attempt failed. `details` is JSON or empty; `retry_after_us` 0: the policy's delay."""

    type: str
    message: str
    details: bytes = b""
    retryable: bool = True
    retry_after_us: int = 0


@dataclass(slots=True)
class Result:
    """How an attempt ended. Exactly one of `output` (JSON), `failure`, `returned` is set.

    `token` is chosen by the runner and named by the verdict. `returned`: given back in a drain; counts neither
    as loss nor as attempt.
    """

    token: int
    execution_id: bytes
    node: int
    attempt: int
    started_at: int
    ended_at: int
    output: bytes | None = None
    failure: Failure | None = None
    returned: bool = False
    cpu_seconds: float = 0.0
    memory_bytes: int = 0


@dataclass(slots=True)
class ResultBatch:
    """Results for one shard; verdicts go to the runner named here."""

    runner_id: str
    results: list[Result]


@dataclass(slots=True)
class VerdictBatch:
    """Tokens of results that counted and of those that are stale; either way their tasks are acknowledged."""

    counted: list[int]
    stale: list[int]


@dataclass(slots=True)
class HeldTask:
    """A task that a runner holds. `heartbeat_details`: JSON, empty when unchanged since the last beat."""

    execution_id: bytes
    node: int
    attempt: int
    started_at: int
    heartbeat_details: bytes = b""


@dataclass(slots=True)
class Beat:
    """A runner's word about itself. `whole`: `held` is all that it holds, else only what started since."""

    runner_id: str
    whole: bool
    held: list[HeldTask]
    slots: int = 0
    slots_used: int = 0
    queues: tuple[str, ...] = ()
    node_types: tuple[str, ...] = ()
    draining: bool = False
    address: str = ""


@dataclass(slots=True)
class Control:
    """An owner's word to a runner: attempts to cancel, and database time at the owner (0: not told)."""

    cancel: tuple[AttemptRef, ...] = ()
    now: int = 0


@dataclass(slots=True)
class Ask:
    """ "May I run this?" of a redelivered, re-published or stale task."""

    runner_id: str
    token: int
    execution_id: bytes
    node: int
    attempt: int


@dataclass(slots=True)
class AnswerBatch:
    """Tokens of tasks to run and of those to drop and acknowledge."""

    run: list[int]
    drop: list[int]


@dataclass(slots=True)
class LogLine:
    """One log line. `number` is dense within the attempt, from 1; `level` 1 DEBUG … 4 ERROR; `data` JSON."""

    number: int
    at: int
    level: int
    message: bytes
    data: bytes = b""


@dataclass(slots=True)
class LogChunk:
    """Lines of one attempt, in order, at most `LOG_CHUNK_BYTES_MAX`."""

    execution_id: bytes
    node: int
    attempt: int
    lines: list[LogLine]


@dataclass(slots=True)
class Nudge:
    """ "Rows were written for these executions." May be lost."""

    execution_ids: list[bytes]
