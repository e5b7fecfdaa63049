"""How a handler says that its node failed. Any other exception is a NODE_EXECUTION that may be retried."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

NODE_EXECUTION = "NODE_EXECUTION"


class NodeFailure(Exception):
    """Fails the attempt with a type of the handler's own choice.

    `type` is what retry policies and `error_types` of edges match; `retryable=False` wins over every policy;
    `retry_after` (seconds or a timedelta) is the delay before the next attempt, capped by the policy;
    `details` is any JSON value.
    """

    def __init__(
        self,
        type: str = NODE_EXECUTION,
        message: str = "",
        *,
        retryable: bool = True,
        retry_after: float | timedelta | None = None,
        details: Any = None,
    ) -> None:
        super().__init__(message or type)
        self.type = type
        self.message = message or type
        self.retryable = retryable
        self.retry_after_s = _seconds(retry_after)
        self.details = details


class NonRetryable(NodeFailure):
    """Fails the node without another attempt: `NonRetryable("CARD_DECLINED", "no funds")`.

    With one text alone that is the message, and the type NODE_EXECUTION.
    """

    def __init__(self, type: str, message: str | None = None, *, details: Any = None) -> None:
        if message is None:
            type, message = NODE_EXECUTION, type
        super().__init__(type, message, retryable=False, details=details)


class Cancelled(NodeFailure):
    """The attempt ends because it was cancelled; raised by `Context.raise_if_cancelled`."""

    def __init__(self, message: str = "the attempt was cancelled") -> None:
        super().__init__("CANCELLED", message, retryable=False)


def _seconds(value: float | timedelta | None) -> float:
    if value is None:
        return 0.0
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0.0 <= seconds < float("inf"):
        raise ValueError("retry_after must be a duration of zero or more seconds")
    return seconds
