"""State of one execution in its owner's memory, and in a reader's.

Changed by `machine.apply` alone, in place: a commit that fails throws the whole object away. It holds no
payloads but those in `values`, a cache that may be emptied at any time and is filled again from history rows.
Size is linear in the graph; the cost of an event is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from services.core.errors import TIMEOUT, ExpressionError, NodeError
from services.core.records import NewExecution
from services.core.states import ExecutionStatus, NodeStatus

if TYPE_CHECKING:
    from services.core.graph import CompiledWorkflow


class JsonCodec(Protocol):
    """The JSON encoder and decoder that the shell lends the core."""

    def loads(self, data: bytes) -> Any:
        """Plain Python of JSON bytes; raises ValueError for what is none."""

    def dumps(self, value: Any) -> bytes:
        """JSON bytes of plain Python; raises ValueError or TypeError for what JSON cannot say."""


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """What is known of an execution before its first event; never changes."""

    id: bytes
    organization_id: str
    user_id: str
    workflow_id: bytes
    workflow_name: str
    version_id: bytes
    version: int
    mode: str
    priority: str
    labels: dict[str, str]
    created_at: int
    timeout_us: int
    key_root: bytes

    @classmethod
    def of(cls, start: NewExecution) -> ExecutionInfo:
        """What of a start the core needs."""
        return cls(
            id=start.execution_id,
            organization_id=start.organization_id,
            user_id=start.user_id,
            workflow_id=start.workflow_id,
            workflow_name=start.workflow_name,
            version_id=start.version_id,
            version=start.version,
            mode=start.mode,
            priority=start.priority,
            labels=dict(start.labels),
            created_at=start.created_at,
            timeout_us=start.timeout_us,
            key_root=start.key_root,
        )


class Values:
    """Input and outputs that expressions and tasks refer to: JSON bytes, parsed once when first needed."""

    __slots__ = ("_codec", "_input", "_parsed", "bytes_held", "complete", "input_json", "outputs", "spliced")

    def __init__(self, codec: JsonCodec, input_json: bytes = b"") -> None:
        self._codec = codec
        self.input_json = input_json
        self.outputs: dict[int, bytes] = {}
        self._input: Any = None
        self._parsed: dict[int, Any] = {}
        # JSON of `nodes.<id>` of nodes that succeeded, made once for all the tasks that carry it.
        self.spliced: dict[int, bytes] = {}
        self.bytes_held = len(input_json)
        # False after an eviction or a restore: outputs must be loaded before the next decision.
        self.complete = True

    def put(self, node: int, output: bytes) -> None:
        """Keep a node's output (JSON bytes; empty for null)."""
        self.outputs[node] = output
        self.bytes_held += len(output)

    def evict(self) -> None:
        """Forget the outputs; whoever decides next loads them again."""
        self.outputs.clear()
        self._parsed.clear()
        self.spliced.clear()
        self._input = None
        self.bytes_held = len(self.input_json)
        self.complete = False

    def input(self) -> Any:
        """The execution's input, parsed."""
        if self._input is None and self.input_json:
            self._input = self._codec.loads(self.input_json)
        return self._input

    def output(self, node: int) -> Any:
        """A node's output, parsed. The output must be there (`ExecutionState.missing_outputs`)."""
        if node in self._parsed:
            return self._parsed[node]
        data = self.outputs[node]
        value = self._parsed[node] = self.loads(data) if data else None
        return value

    def loads(self, data: bytes) -> Any:
        """Plain Python of other JSON bytes. Raises `ExpressionError`: a runner may call anything JSON."""
        try:
            return self._codec.loads(data)
        except ValueError as error:
            shown = data[:40].decode("utf-8", "replace")
            raise ExpressionError(f"`{shown}` is no JSON: {error}") from None

    def dumps(self, value: Any) -> bytes:
        """JSON bytes of a value that was made here. Raises `ExpressionError` for what JSON cannot say."""
        try:
            return self._codec.dumps(value)
        except (TypeError, ValueError) as error:
            raise ExpressionError(f"the value has no JSON: {error}") from None


@dataclass(slots=True)
class RetryRecord:
    """An attempt that ended and was followed by another; `error` is None when its runner was lost."""

    attempt: int
    started_at: int
    ended_at: int
    error: NodeError | None
    delay_us: int
    runner_id: str
    lost: bool = False


class NodeState:
    """One node run. `attempt` is 0 until the first is scheduled; instants are 0 until they are known."""

    __slots__ = (
        "attempt",
        "continued",
        "cpu_seconds",
        "dead",
        "decided",
        "due_at",
        "edge_error",
        "ended_at",
        "ended_sequence",
        "error",
        "first_scheduled_at",
        "losses",
        "memory_bytes",
        "port",
        "retries",
        "returned_by",
        "runner_id",
        "scheduled_at",
        "started_at",
        "status",
        "taken",
        "task_vars",
        "vars",
        "waiting_for",
    )

    def __init__(self) -> None:
        self.status = NodeStatus.PENDING
        self.decided = False
        self.attempt = 0
        self.losses = 0
        self.taken = 0
        self.dead = 0
        self.edge_error = ""
        self.first_scheduled_at = 0
        self.scheduled_at = 0
        self.started_at = 0
        self.ended_at = 0
        self.ended_sequence = 0
        self.due_at = 0
        self.waiting_for = ""
        self.runner_id = ""
        self.returned_by = ""
        self.error: NodeError | None = None
        self.port = "out"
        self.continued = False
        self.task_vars = b""
        self.vars = b""
        self.retries: list[RetryRecord] | None = None
        self.cpu_seconds = 0.0
        self.memory_bytes = 0


@dataclass(slots=True)
class ExecutionState:
    """One execution: its pinned version, where each node stands, and what is due.

    `sequence` counts the events applied. `ready_local` and `ready_tasks` are heaps of (position, node) whose
    joins said run; entries whose node has moved on are stale and skipped. `timers` is a heap of (instant, kind,
    node, attempt), stale entries likewise; node −1 stands for the execution. `dropped` are the (node, attempt) that
    events cancelled by themselves while a runner had them; `decide` turns them into effects at once.
    """

    info: ExecutionInfo
    workflow: CompiledWorkflow
    values: Values
    nodes: list[NodeState]
    edges: bytearray
    sequence: int = 0
    status: ExecutionStatus = ExecutionStatus.PENDING
    status_reason: str = ""
    started_at: int = 0
    deadline_at: int = 0
    grace_until: int = 0
    ended_at: int = 0
    output_sequence: int = 0
    output: bytes = b""
    error: NodeError | None = None
    cancel_reason: str = ""
    cancelled_by: str = ""
    open: int = 0
    active: int = 0
    finished: int = 0
    ready_local: list[tuple[int, int]] = field(default_factory=list)
    ready_tasks: list[tuple[int, int]] = field(default_factory=list)
    timers: list[tuple[int, int, int, int]] = field(default_factory=list)
    dropped: list[tuple[int, int]] = field(default_factory=list)

    def missing_outputs(self) -> list[tuple[int, int]]:
        """(node, sequence) of outputs that expressions may refer to and that `values` does not hold."""
        outputs, nodes = self.values.outputs, self.nodes
        return [
            (index, nodes[index].ended_sequence)
            for index in self.workflow.retained
            if nodes[index].status is NodeStatus.SUCCESS and index not in outputs
        ]


def failed_status(error: NodeError) -> NodeStatus:
    """State of a node that failed for good: TIMEOUT when one of its timeouts ended it.

    A handler's own error of type TIMEOUT names no timeout of ours: that is FAILED.
    """
    return NodeStatus.TIMEOUT if error.type == TIMEOUT and error.timeout else NodeStatus.FAILED


def new_execution(info: ExecutionInfo, workflow: CompiledWorkflow, values: Values) -> ExecutionState:
    """State before the first event: PENDING."""
    return ExecutionState(
        info=info,
        workflow=workflow,
        values=values,
        nodes=[NodeState() for _ in workflow.nodes],
        edges=bytearray(len(workflow.edges)),
    )
