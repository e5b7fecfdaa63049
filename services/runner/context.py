"""The `Context` that this runner hands to handlers: heartbeats and lines go where they belong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from services.adapters.clock import Clock
from services.core.ids import uuid_text
from services.core.units import KIB
from services.runner.attempt_log import AttemptLog, LogShipper
from weconnect import Context, NodeLog

if TYPE_CHECKING:
    from services.runner.held import Held

HEARTBEAT_DETAILS_BYTES_MAX = 16 * KIB


class AttemptContext(Context):
    """One attempt, connected to its runner."""

    __slots__ = ("_clock", "_held", "_shipper")

    def __init__(self, held: Held, shipper: LogShipper, clock: Clock) -> None:
        task = held.task
        details = orjson.loads(task.heartbeat_details) if task.heartbeat_details else None
        super().__init__(
            execution_id=uuid_text(task.execution_id),
            node_id=task.node_id,
            node_name=task.node_name,
            node_type=task.type,
            attempt=task.attempt,
            idempotency_key=task.idempotency_key,
            workflow_name=task.workflow_name,
            organization_id=task.organization_id,
            heartbeat_details=details,
        )
        self._held = held
        self._shipper = shipper
        self._clock = clock

    def heartbeat(self, details: Any = None) -> None:
        """Say that the handler is alive. Raises ValueError for details over 16 KiB, TypeError for no JSON."""
        if details is not None:
            data = orjson.dumps(details)
            if len(data) > HEARTBEAT_DETAILS_BYTES_MAX:
                raise ValueError(
                    f"heartbeat details of {len(data)} bytes are over {HEARTBEAT_DETAILS_BYTES_MAX}"
                )
            self._held.heartbeat_json = data
            self.last_heartbeat = details
        self._held.heartbeat_at = self._clock.monotonic()

    def _open_log(self) -> NodeLog:
        held = self._held
        if held.log is None:
            held.log = AttemptLog(held.task, self._shipper)
        return held.log
