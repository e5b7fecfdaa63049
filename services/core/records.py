"""Rows as plain values: what the stores hand in and out. No store, no encoding, no clock.

Ids are 16 raw bytes, instants (`*_at`) microseconds since the Unix epoch in database time, durations (`*_us`)
microseconds; JSON and packed events are bytes. Words for status, mode and priority are lower case, as in SQL.
`None` means absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NewExecution:
    """Everything about an execution that is known when it is accepted, and never changes after.

    `options` is opaque to the store (pinned outputs, breakpoints …). `wake_at`: nothing happens before that
    instant (a delayed start); it is the only field that is not kept.
    """

    execution_id: bytes
    organization_id: str
    user_id: str
    workflow_id: bytes
    workflow_name: str
    version_id: bytes
    version: int
    mode: str
    priority: str
    created_at: int
    timeout_us: int
    key_root: bytes
    root_execution_id: bytes
    input: bytes | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    retry_count: int = 0
    retry_of_execution_id: bytes | None = None
    rollback_of_execution_id: bytes | None = None
    parent_execution_id: bytes | None = None
    schedule_id: bytes | None = None
    template_id: bytes | None = None
    options: bytes | None = None
    wake_at: int | None = None


@dataclass(frozen=True, slots=True)
class OpenExecution:
    """A row of `open_executions`: the start and where its owner left it.

    `sequence` is the number of events in `snapshot`; 0 and `None` when none was written. `quarantine` is the
    text of what went wrong in the core, or `None`.
    """

    start: NewExecution
    asleep: bool
    wake_at: int | None
    sequence: int
    snapshot: bytes | None
    quarantine: bytes | None


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """Events `sequence` to `last_sequence` of one execution, packed, as one commit wrote them."""

    execution_id: bytes
    sequence: int
    last_sequence: int
    at: int
    events: bytes
    events_version: int = 0


@dataclass(frozen=True, slots=True)
class FinishedExecution:
    """How an execution ended: joined with its start into the one row of `executions`."""

    execution_id: bytes
    status: str
    completed_at: int
    sequence: int
    status_reason: str = ""
    output: bytes | None = None
    error: bytes | None = None
    started_at: int | None = None
    nodes_executed: int = 0
    nodes_failed: int = 0
    metrics: bytes | None = None
    snapshot: bytes | None = None


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """An execution as readers see it, open or finished.

    Of an open one the store knows `status` (`pending` without history, else `running`), the last written
    `snapshot` and its `sequence`; the rest is folded by the reader. Lists leave out payloads.
    """

    start: NewExecution
    open: bool
    status: str
    status_reason: str = ""
    output: bytes | None = None
    error: bytes | None = None
    started_at: int | None = None
    completed_at: int | None = None
    nodes_executed: int = 0
    nodes_failed: int = 0
    metrics: bytes | None = None
    sequence: int = 0
    snapshot: bytes | None = None


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """State after `sequence` events. `asleep`: the execution is put down, until `wake_at` if given."""

    execution_id: bytes
    sequence: int
    snapshot: bytes
    wake_at: int | None = None
    asleep: bool = True


@dataclass(frozen=True, slots=True)
class NewCommand:
    """What somebody asks of an execution, recorded first. `request_id` is unique in the organization."""

    command_id: bytes
    execution_id: bytes
    organization_id: str
    request_id: str
    kind: str
    body: bytes
    created_at: int
    requested_by: str = ""


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A recorded command and, once its owner has decided, the verdict."""

    command: NewCommand
    verdict: str | None = None
    verdict_body: bytes | None = None
    decided_at: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The owner's answer to a command; `body` is opaque to the store."""

    command_id: bytes
    verdict: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class CommitRow:
    """One row of `commits`: a numbered batch of a session. `kind` is one of the three below."""

    session: int
    number: int
    kind: int
    at: int
    digest: bytes


COMMIT_MADE = 0
COMMIT_VOID = 1
COMMIT_CLOSED = 2


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A scheduler's lease. `address` is `host:port` of its gRPC server."""

    session: int
    holder: str
    address: str
    events_version: int
    lease_until: int


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """A named definition and the number of its newest version."""

    workflow_id: bytes
    organization_id: str
    name: str
    latest_version: int
    created_at: int
    updated_at: int
    created_by: str


@dataclass(frozen=True, slots=True)
class VersionRow:
    """An immutable version. `definition` is canonical JSON; listings leave it empty."""

    version_id: bytes
    workflow_id: bytes
    organization_id: str
    version: int
    definition: bytes
    content_hash: bytes
    hash_form: int
    created_at: int
    created_by: str


@dataclass(frozen=True, slots=True)
class LogRow:
    """A log line. `number` is dense in the attempt, from 1; `sequence` (0: not yet) in the execution."""

    execution_id: bytes
    node: int
    node_id: str
    node_name: str
    node_type: str
    attempt: int
    number: int
    level: int
    message: bytes
    at: int
    data: bytes | None = None
    iteration: int = 0
    execution_step: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A start and its idempotency key; an empty key asks for no protection.

    `body_hash` is of the request as sent. `replaces`: the execution that the key names now and may leave, for
    a restart after failure.
    """

    start: NewExecution
    key: str = ""
    body_hash: bytes = b""
    replaces: bytes | None = None


@dataclass(frozen=True, slots=True)
class StartResult:
    """The execution that stands for a start; not `inserted`: the key named it before, `body_hash` is the first's."""

    execution_id: bytes
    inserted: bool
    body_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions a list shows; empty means all. `created_after` is inclusive, `created_before` exclusive.

    `labels`: all of them match. `retry_of` and `parent` find what was made from an execution.
    """

    statuses: frozenset[str] = frozenset()
    modes: frozenset[str] = frozenset()
    workflow_id: bytes | None = None
    user_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: int | None = None
    created_before: int | None = None
    retry_of: bytes | None = None
    parent: bytes | None = None
    root: bytes | None = None


# Place in a list: (created_at, execution_id) of the last row shown.
Position = tuple[int, bytes]
