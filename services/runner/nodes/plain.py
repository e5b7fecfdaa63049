"""Built-in nodes that neither wait nor reach outside."""

from __future__ import annotations

from typing import Any

from services.core.errors import VALIDATION
from services.core.templates import as_text
from weconnect import Context, NonRetryable

_LEVELS = {"DEBUG": 1, "INFO": 2, "WARN": 3, "ERROR": 4}


def transform(input: Any) -> Any:
    """`{value}`: its resolved value is the output."""
    if type(input) is not dict or "value" not in input:
        raise NonRetryable(VALIDATION, "transform: parameters must be {value: …}")
    return input["value"]


def write_log(input: Any, ctx: Context) -> None:
    """`{message, level, data}`: one line in the execution's log; the output is null."""
    if type(input) is not dict or "message" not in input:
        raise NonRetryable(VALIDATION, "log: parameters must be {message, level, data}")
    level = _LEVELS.get(str(input.get("level") or "INFO").upper())
    if level is None:
        raise NonRetryable(VALIDATION, "log: level must be DEBUG, INFO, WARN or ERROR")
    data = input.get("data")
    if data is None:
        data = {}
    ctx.log.write(level, as_text(input["message"]), data if isinstance(data, dict) else {"data": data})
