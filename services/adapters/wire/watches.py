"""Messages of a watch."""

from __future__ import annotations

from typing import Any, Protocol

from services.adapters.wire.failures import put_node_error
from services.adapters.wire.scalars import NODE_STATUS, WAITING_FOR_NUMBERS, set_instant
from services.core.errors import NodeError
from services.core.states import NodeStatus
from weconnect.executions.v1 import execution_service_pb2 as pb


class ShownChange(Protocol):
    """What is written of a change of one node; `until` 0: nothing bounds its wait."""

    @property
    def sequence(self) -> int: ...
    @property
    def at(self) -> int: ...
    @property
    def node_id(self) -> str: ...
    @property
    def status(self) -> NodeStatus: ...
    @property
    def attempt(self) -> int: ...
    @property
    def error(self) -> NodeError | None: ...
    @property
    def waiting_for(self) -> str: ...
    @property
    def until(self) -> int: ...
    @property
    def port(self) -> str: ...
    @property
    def runner_id(self) -> str: ...


def put_change(message: Any, change: ShownChange, *, exact: bool) -> None:
    """Write a change into a NodeChange."""
    body: pb.NodeChange = message
    body.sequence, body.node_id, body.attempt = change.sequence, change.node_id, change.attempt
    body.status, body.port, body.runner_id = NODE_STATUS[change.status], change.port, change.runner_id
    set_instant(body.at, change.at)
    if change.waiting_for:
        body.waiting_for = WAITING_FOR_NUMBERS.get(change.waiting_for, 0)
    if change.until:
        set_instant(body.until, change.until)
    if change.error is not None:
        put_node_error(body.error, change.error, exact=exact)
