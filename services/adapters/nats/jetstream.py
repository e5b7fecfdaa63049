"""JetStream's API as requests: what this project asks of it, in its own types."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from services.adapters.bus import ConsumerState, NoResponders, QueueError, StreamState
from services.adapters.nats.connection import NatsBus

API = "$JS.API."
API_TIMEOUT_SECONDS = 5.0

STREAM_NOT_FOUND = 10059
MESSAGE_NOT_FOUND = 10037
STREAM_NAME_IN_USE = 10058
NO_RESPONDERS = 503
"""Code of a `QueueError` when JetStream does not answer at all: off, or starting."""

SECOND_NS = 1_000_000_000


async def call(bus: NatsBus, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    """One call of JetStream's API. Raises `QueueError` with its error code, or another `BusError`."""
    body = orjson.dumps(request) if request is not None else b""
    try:
        answer = await bus.request(API + operation, body, API_TIMEOUT_SECONDS)
    except NoResponders as error:
        raise QueueError(NO_RESPONDERS, f"JetStream does not answer {operation}") from error
    decoded: dict[str, Any] = orjson.loads(answer)
    if problem := decoded.get("error"):
        raise QueueError(problem.get("err_code", problem.get("code", 0)), problem.get("description", ""))
    return decoded


def stream_state(info: dict[str, Any]) -> StreamState:
    """Reads a stream's info."""
    state = info["state"]
    return StreamState(
        created_at=micros(info["created"]),
        first_sequence=state["first_seq"],
        last_sequence=state["last_seq"],
        messages=state["messages"],
        bytes=state["bytes"],
    )


def consumer_state(info: dict[str, Any]) -> ConsumerState:
    """Reads a consumer's info."""
    return ConsumerState(
        pending=info["num_pending"],
        unacknowledged=info["num_ack_pending"],
        redelivered=info["num_redelivered"],
        waiting=info["num_waiting"],
        delivered_sequence=info["delivered"]["stream_seq"],
        ack_floor_sequence=info["ack_floor"]["stream_seq"],
    )


async def has_sequence(bus: NatsBus, stream: str, sequence: int) -> bool:
    """Whether a stream holds a sequence. Raises `BusError`; `QueueError` when there is no stream."""
    try:
        await call(bus, f"STREAM.MSG.GET.{stream}", {"seq": sequence})
    except QueueError as error:
        if error.code == MESSAGE_NOT_FOUND:
            return False
        raise
    return True


def micros(instant: str) -> int:
    """Microseconds since the epoch of an RFC 3339 instant; nanoseconds are cut off."""
    moment = datetime.fromisoformat(instant)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
