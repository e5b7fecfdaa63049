"""What a handler knows about the attempt that it performs, and how it speaks while it does.

Used on its own (`Context(node_id="charge")`) it collects lines and heartbeats, which is what tests of handlers
want; a runner hands handlers a subclass that sends them.
"""

from __future__ import annotations

import threading
from typing import Any

from weconnect.failures import Cancelled

DEBUG, INFO, WARN, ERROR = 1, 2, 3, 4


class NodeLog:
    """Writes lines into the execution's log: `ctx.log.info("charged", amount=12)`.

    A line's message is cut at 32 KiB, an attempt's lines at 10 MiB in all, both visibly. Safe in any thread.
    """

    __slots__ = ()

    def write(self, level: int, message: str, data: dict[str, Any]) -> None:
        """Take one line; `level` is 1 DEBUG, 2 INFO, 3 WARN, 4 ERROR, `data` any JSON object."""
        raise NotImplementedError

    def debug(self, message: str, /, **data: Any) -> None:
        """Write a line of level DEBUG."""
        self.write(DEBUG, message, data)

    def info(self, message: str, /, **data: Any) -> None:
        """Write a line of level INFO."""
        self.write(INFO, message, data)

    def warn(self, message: str, /, **data: Any) -> None:
        """Write a line of level WARN."""
        self.write(WARN, message, data)

    warning = warn

    def error(self, message: str, /, **data: Any) -> None:
        """Write a line of level ERROR."""
        self.write(ERROR, message, data)

    def __call__(self, message: str, /, **data: Any) -> None:
        """Write a line of level INFO."""
        self.write(INFO, message, data)


class CollectedLog(NodeLog):
    """Keeps lines in a list, for tests of handlers."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, dict[str, Any]]] = []

    def write(self, level: int, message: str, data: dict[str, Any]) -> None:
        """Keep the line."""
        self.lines.append((level, message, data))


class Context:
    """One attempt, as its handler sees it.

    `execution_id` is the canonical UUID text; `attempt` counts from 1; `idempotency_key` is the same for every
    attempt of the node, so what it keys happens once; `heartbeat_details` is what the attempt before said last,
    or None.
    """

    __slots__ = (
        "_cancel_flag", "_cancel_lock", "_cancelled", "_log", "attempt", "execution_id", "heartbeat_details",
        "idempotency_key", "last_heartbeat", "node_id", "node_name", "node_type", "organization_id",
        "workflow_name",
    )  # fmt: skip

    def __init__(
        self,
        *,
        execution_id: str = "00000000-0000-7000-8000-000000000000",
        node_id: str = "node",
        node_name: str = "",
        node_type: str = "",
        attempt: int = 1,
        idempotency_key: str = "",
        workflow_name: str = "",
        organization_id: str = "",
        heartbeat_details: Any = None,
    ) -> None:
        self.execution_id = execution_id
        self.node_id = node_id
        self.node_name = node_name or node_id
        self.node_type = node_type
        self.attempt = attempt
        self.idempotency_key = idempotency_key
        self.workflow_name = workflow_name
        self.organization_id = organization_id
        self.heartbeat_details = heartbeat_details
        self.last_heartbeat: Any = None
        self._log: NodeLog | None = None
        self._cancelled = False
        self._cancel_lock = threading.Lock()
        self._cancel_flag: threading.Event | None = None

    @property
    def log(self) -> NodeLog:
        """The execution's log."""
        if self._log is None:
            self._log = self._open_log()
        return self._log

    @property
    def cancelled(self) -> bool:
        """True once nobody needs this attempt any more; long synchronous handlers look now and then."""
        return self._cancelled

    def wait_cancelled(self, timeout_s: float | None = None) -> bool:
        """Block the calling thread until the attempt is cancelled or `timeout_s` is over; True when cancelled."""
        with self._cancel_lock:
            if self._cancel_flag is None:
                self._cancel_flag = threading.Event()
                if self._cancelled:
                    self._cancel_flag.set()
        return self._cancel_flag.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` once the attempt is cancelled."""
        if self._cancelled:
            raise Cancelled

    def cancel(self) -> None:
        """Set the flag; called by the runner, and by tests of handlers. Safe in any thread."""
        with self._cancel_lock:
            self._cancelled = True
            if self._cancel_flag is not None:
                self._cancel_flag.set()

    def heartbeat(self, details: Any = None) -> None:
        """Say that the handler is alive, and how far it is: `details` (JSON) is what the next attempt finds.

        Needed within every `heartbeat` timeout of the node. Not a coroutine; cheap; safe in any thread.
        """
        self.last_heartbeat = details

    def _open_log(self) -> NodeLog:
        return CollectedLog()
