"""What the owner keeps of one open execution in memory: its state, and what is out with runners."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from services.core.ids import shard_of
from services.core.state import ExecutionState


class InFlight:
    """One attempt that may be with a runner.

    `queue` is the task queue whose window it takes from (empty while it takes none: not published by this
    owner); `sequence` its stream sequence, 0 until confirmed or when another owner published it; `heard_at`
    when anything was last heard of it; `runner_id` who holds it, empty until somebody says so; `publication` counts
    publications (one that an earlier owner may have made counts, so that the next is asked about before it runs).
    """

    __slots__ = (
        "attempt",
        "heard_at",
        "heartbeat_details",
        "publication",
        "published_at",
        "queue",
        "runner_id",
        "sequence",
    )

    def __init__(self, attempt: int, heard_at: int, runner_id: str = "", publication: int = 0) -> None:
        self.attempt = attempt
        self.heard_at = heard_at
        self.runner_id = runner_id
        self.queue = ""
        self.publication = publication
        self.published_at = 0
        self.sequence = 0
        self.heartbeat_details = b""


class Live:
    """One open execution in its owner's memory.

    `waiting` counts its attempts in the dispatcher's backlog; `asleep` says that its row is put down and must
    be woken in the next commit; `history_bytes` counts what was written since its last snapshot of
    `snapshot_bytes`.
    """

    __slots__ = (
        "asleep",
        "heartbeats",
        "history_bytes",
        "in_flight",
        "queued",
        "snapshot_bytes",
        "state",
        "waiting",
        "wake_at",
    )

    def __init__(
        self, state: ExecutionState, *, asleep: bool, snapshot_bytes: int = 0, history_bytes: int = 0
    ) -> None:
        self.state = state
        self.asleep = asleep
        self.in_flight: dict[int, InFlight] = {}
        self.heartbeats: dict[int, bytes] = {}
        self.waiting = 0
        self.queued = 0
        self.wake_at = 0
        self.snapshot_bytes = snapshot_bytes
        self.history_bytes = history_bytes

    @property
    def id(self) -> bytes:
        """The execution's id."""
        return self.state.info.id

    @property
    def idle(self) -> bool:
        """Whether no attempt is out or waiting and no input is queued: it may be put down."""
        return not (self.in_flight or self.waiting or self.queued)


class Left:
    """What has left memory since a read of rows began; rows of these may be older than what was committed."""

    __slots__ = ("ids", "shards")

    def __init__(self) -> None:
        self.ids: set[bytes] = set()
        self.shards: set[int] = set()

    def __contains__(self, execution_id: object) -> bool:
        return isinstance(execution_id, bytes) and (
            execution_id in self.ids or shard_of(execution_id) in self.shards
        )


class LiveTable(dict[bytes, Live]):
    """The executions in memory, by id. Whoever reads rows to load some must know which have left meanwhile."""

    __slots__ = ("_watches",)

    def __init__(self) -> None:
        super().__init__()
        self._watches: list[Left] = []

    def leave(self, execution_id: bytes) -> Live | None:
        """Take an execution out of memory: it ended, was put down, or is void."""
        for left in self._watches:
            left.ids.add(execution_id)
        return self.pop(execution_id, None)

    def lose(self, shards: Collection[int]) -> list[Live]:
        """Take whole shards out of memory, also what is only just being read: they are somebody else's now.

        An execution that came in after its shard was lost would stay as it was then, and hide the shard's rows
        should it come back.
        """
        for left in self._watches:
            left.shards.update(shards)
        return [self.pop(key) for key in [key for key in self if shard_of(key) in shards]]

    @contextmanager
    def watched(self) -> Iterator[Left]:
        """What leaves within the block: rows read in it may be older than what was committed for these."""
        left = Left()
        self._watches.append(left)
        try:
            yield left
        finally:
            self._watches = [watch for watch in self._watches if watch is not left]
