"""Starting executions: everything is checked before anything is written; accepted means committed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.adapters.clock import Clock
from services.adapters.config import ExecutionSettings
from services.adapters.ids import new_uuid7
from services.adapters.postgres.starts import StartWriter
from services.adapters.tokens import Identity
from services.api.metrics import ApiMetrics
from services.api.nudges import Nudges
from services.api.reading import Reader
from services.api.versions import Version, Versions, WorkflowChoice
from services.core.definition.duration import duration_text
from services.core.errors import Problem
from services.core.ids import uuid_text
from services.core.node_types import BUILT_IN_TASK_TYPES
from services.core.records import ExecutionRecord, NewExecution, StartRequest, StartResult
from services.core.refusals import Kind, Refusal, exhausted, invalid, unavailable
from services.core.units import SECOND

STARTS_WAITING_MAX = 20_000
TIMEOUT_US_MIN = SECOND
RESTARTS_MAX = 5

RETURN_EXISTING, REJECT, RESTART_AFTER_FAILURE = "return_existing", "reject", "restart_after_failure"
# Ends after which RESTART_AFTER_FAILURE starts anew.
FAILURES = frozenset({"failed", "cancelled", "timeout"})
# Types that touch nothing but the execution itself; all others need a pinned output in TEST mode.
_HARMLESS = BUILT_IN_TASK_TYPES - {"http.request"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A start as the client sent it: well-formed, not yet held against its workflow.

    `input_json` is stored as it is, `input` is the same parsed; empty `key`: no protection. `timeout_us` None:
    the workflow's, else the default.
    """

    choice: WorkflowChoice
    input_json: bytes
    input: Any
    mode: str = "manual"
    priority: str = "normal"
    timeout_us: int | None = None
    key: str = ""
    policy: str = RETURN_EXISTING
    labels: dict[str, str] = field(default_factory=dict)

    def body_hash(self) -> bytes:
        """SHA-256 of the request as sent: alias unresolved, canonical JSON; key, policy and waiting left out."""
        choice = self.choice
        body = {
            "workflow": uuid_text(choice.workflow_id) if choice.workflow_id else choice.workflow_name,
            "version": choice.version or choice.alias,
            "input": self.input,
            "mode": self.mode,
            "priority": self.priority,
            "timeout_us": self.timeout_us,
            "labels": self.labels,
        }
        return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True, slots=True)
class Start:
    """A start that was checked. `execution_id` is fresh; an idempotency key may answer with another."""

    wanted: Wanted
    version: Version
    execution: NewExecution


@dataclass(frozen=True, slots=True)
class Accepted:
    """What stands for a start. `record` is the execution as accepted; of an existing one the caller reads it."""

    execution_id: bytes
    existing: bool
    record: ExecutionRecord | None


class Starter:
    """Checks and accepts starts."""

    def __init__(
        self,
        clock: Clock,
        versions: Versions,
        writer: StartWriter,
        reader: Reader,
        nudges: Nudges,
        settings: ExecutionSettings,
        metrics: ApiMetrics,
    ) -> None:
        self._clock = clock
        self._versions = versions
        self.writer = writer
        self._reader = reader
        self._nudges = nudges
        self._settings = settings
        self._metrics = metrics
        self._waiting = 0
        self.accepted = 0
        self.draining = False

    async def check(self, identity: Identity, wanted: Wanted) -> Start:
        """Hold a start against its workflow. Raises Refusal with everything that is wrong; writes nothing."""
        version = await self._versions.find(identity.organization_id, wanted.choice)
        timeout_us = self._timeout_us(wanted, version)
        self._check_input(wanted, version)
        if wanted.mode == "test":
            _check_test_mode(version)
        now = self._clock.now()
        execution_id = new_uuid7(now)
        row = version.row
        execution = NewExecution(
            execution_id=execution_id,
            organization_id=identity.organization_id,
            user_id=identity.user_id,
            workflow_id=row.workflow_id,
            workflow_name=version.name,
            version_id=row.version_id,
            version=row.version,
            mode=wanted.mode,
            priority=wanted.priority,
            created_at=now,
            timeout_us=timeout_us,
            key_root=execution_id,
            root_execution_id=execution_id,
            input=wanted.input_json,
            labels=wanted.labels,
        )
        return Start(wanted, version, execution)

    async def accept(self, start: Start) -> Accepted:
        """Commit a checked start, once per idempotency key. Raises Refusal as its policy says."""
        if self.draining:
            raise unavailable("DRAINING", "the server is draining; try again")
        if self._waiting >= STARTS_WAITING_MAX:
            raise exhausted(
                "starts_waiting_max",
                "too many starts wait for the database",
                SECOND,
                {"max": str(STARTS_WAITING_MAX)},
            )
        self._waiting += 1
        try:
            return await self._accept(start)
        finally:
            self._waiting -= 1

    async def _accept(self, start: Start) -> Accepted:
        wanted, execution = start.wanted, start.execution
        body_hash = wanted.body_hash() if wanted.key else b""
        replaces: bytes | None = None
        for attempt in range(RESTARTS_MAX + 1):
            result = await self.writer.put(StartRequest(execution, wanted.key, body_hash, replaces))
            if result.inserted:
                self._nudges.started(execution.execution_id)
                self._metrics.started.of(execution.mode).inc()
                self.accepted += 1
                return Accepted(execution.execution_id, False, ExecutionRecord(execution, True, "pending"))
            self._check_key(wanted, result, body_hash)
            if attempt == RESTARTS_MAX or not await self._may_restart(wanted, result.execution_id):
                self._metrics.existing.inc()
                return Accepted(result.execution_id, True, None)
            replaces = result.execution_id
        raise AssertionError("unreachable")

    async def _may_restart(self, wanted: Wanted, known: bytes) -> bool:
        """Whether the execution that a key names has failed, and the client wants another then."""
        if wanted.policy != RESTART_AFTER_FAILURE:
            return False
        record = await self._reader.record(known)
        return record is not None and record.status in FAILURES

    def _check_key(self, wanted: Wanted, known: StartResult, body_hash: bytes) -> None:
        metadata = {"idempotencyKey": wanted.key, "executionId": uuid_text(known.execution_id)}
        if known.body_hash != body_hash:
            raise Refusal(
                Kind.ALREADY_EXISTS,
                "IDEMPOTENCY_KEY_REUSED",
                f"idempotency key {wanted.key} was used with another request",
                metadata=metadata,
                resource=("execution", metadata["executionId"]),
            )
        if wanted.policy == REJECT:
            raise Refusal(
                Kind.ALREADY_EXISTS,
                "EXECUTION_EXISTS",
                f"idempotency key {wanted.key} has started execution {metadata['executionId']}",
                metadata=metadata,
                resource=("execution", metadata["executionId"]),
            )

    def _timeout_us(self, wanted: Wanted, version: Version) -> int:
        own = version.workflow.timeout_us
        if wanted.timeout_us is None:
            return own or self._settings.default_timeout_us
        longest = max(self._settings.max_timeout_us, own or 0)
        if not TIMEOUT_US_MIN <= wanted.timeout_us <= longest:
            message = f"it must be from {duration_text(TIMEOUT_US_MIN)} to {duration_text(longest)}"
            raise invalid([Problem("timeout", "OUT_OF_RANGE", message)])
        return wanted.timeout_us

    def _check_input(self, wanted: Wanted, version: Version) -> None:
        if version.schema is not None:
            problems = version.schema.problems(wanted.input, "input")
        elif not isinstance(wanted.input, dict):
            problems = [Problem("input", "TYPE", "it must be a JSON object")]
        else:
            return
        if problems:
            refusal = invalid(problems, "INVALID_INPUT")
            refusal.metadata.update(workflowName=version.name, version=str(version.row.version))
            raise refusal


def _check_test_mode(version: Version) -> None:
    """TEST reaches nothing outside: this release has no pinned outputs that could stand in."""
    reaching = [node for node in version.workflow.nodes if not node.local and node.type not in _HARMLESS]
    if not reaching:
        return
    raise Refusal(
        Kind.FAILED_PRECONDITION,
        "OUTPUT_NOT_PINNED",
        f"in TEST mode node {reaching[0].id} ({reaching[0].type}) needs a pinned output",
        metadata={"nodeId": reaching[0].id, "nodeType": reaching[0].type},
        problems=[
            Problem(
                f"nodes.{node.id}",
                "OUTPUT_NOT_PINNED",
                f"{node.type} reaches outside and has no pinned output",
            )
            for node in reaching
        ],
    )
