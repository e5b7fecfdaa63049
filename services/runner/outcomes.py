"""What a handler's return value or exception means: a JSON output, or a failure with the right type.

Bounds are those of one message: an output of 256 KiB, texts and details of a failure far below that.
"""

from __future__ import annotations

import dataclasses
import math
import traceback
from typing import Any

import orjson

from services.core.errors import CANCELLED, EXPRESSION, NODE_EXECUTION, RESOURCE, TIMEOUT, VALIDATION
from services.core.tasks import VALUE_BYTES_MAX, Failure
from services.core.units import KIB, SECOND
from weconnect import NodeFailure

TYPE_CHARACTERS_MAX = 128
MESSAGE_CHARACTERS_MAX = 8 * KIB
DETAILS_BYTES_MAX = 64 * KIB
RETRY_AFTER_SECONDS_MAX = 366 * 24 * 3600

_NULL = b"null"
_NUL = b"\\u0000"


def encode_value(value: Any) -> bytes:
    """JSON of a handler's output (dataclasses, dates, UUIDs and enums included).

    Raises ValueError, with a text for people, for what JSON or a record cannot hold: NaN and infinities, NUL,
    keys that are no strings, integers over 64 bits, other objects.
    """
    try:
        data = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the value is not JSON serialisable: {error}") from None
    # orjson writes NaN as null: only a value with a null in it needs to be searched.
    if _NULL in data and _has_non_finite(value):
        raise ValueError("the value holds NaN or an infinity, which JSON has not")
    if _NUL in data and _has_nul(orjson.loads(data)):
        raise ValueError("the value holds a NUL character, which texts may not have")
    return data


def succeeded(value: Any) -> bytes | Failure:
    """Output of a handler that returned, or the failure that its value is."""
    try:
        data = encode_value(value)
    except ValueError as error:
        return Failure(VALIDATION, f"output: {error}", retryable=False)
    if len(data) > VALUE_BYTES_MAX:
        text = f"output: {len(data)} bytes of JSON are over the {VALUE_BYTES_MAX} that a value may have"
        return Failure(RESOURCE, text, retryable=False)
    return data


def failed(error: BaseException) -> Failure:
    """Failure that a handler's exception stands for, whatever the exception does when it is asked."""
    try:
        return _failure_of(error)
    except BaseException as problem:  # an attempt without a result would hold its execution for ever
        return Failure(
            NODE_EXECUTION,
            f"{type(error).__name__}, which raises {type(problem).__name__} when it is asked what it is",
        )


def _failure_of(error: BaseException) -> Failure:
    if isinstance(error, NodeFailure):
        return Failure(
            _encodable(str(error.type))[:TYPE_CHARACTERS_MAX] or NODE_EXECUTION,
            cut(str(error.message)),
            _details(error.details),
            bool(error.retryable),
            int(min(error.retry_after_s, RETRY_AFTER_SECONDS_MAX) * SECOND),
        )
    name = type(error).__name__
    details: dict[str, Any] = {"exception": f"{type(error).__module__}.{type(error).__qualname__}"}
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        details["at"] = f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].name}"
    try:
        text = f"{name}: {error}"
    except Exception:  # an exception whose own text cannot be made still fails its node, by its name
        text = name
    kind = RESOURCE if isinstance(error, MemoryError) else NODE_EXECUTION
    return Failure(kind, cut(text), _details(details))


def expression_failed(message: str) -> Failure:
    """Failure of a node whose parameters could not be resolved."""
    return Failure(EXPRESSION, cut(message), retryable=False)


def timed_out(timeout: str, timeout_us: int) -> Failure:
    """Failure of an attempt that a timeout ended; the details name the timeout."""
    text = f"{timeout}: nothing came within {timeout_us / SECOND:g} s"
    return Failure(TIMEOUT, text, orjson.dumps({"timeout": timeout, "seconds": timeout_us / SECOND}))


def cancelled(message: str) -> Failure:
    """Failure of an attempt that was cancelled."""
    return Failure(CANCELLED, message, retryable=False)


def _encodable(text: str) -> str:
    """The text with a question mark for each lone surrogate, which no message can hold."""
    return text.encode("utf-8", "replace").decode()


def cut(text: str) -> str:
    """The text, cut visibly at the bound of a failure's message."""
    if len(text) <= MESSAGE_CHARACTERS_MAX:
        return _encodable(text)
    return _encodable(f"{text[:MESSAGE_CHARACTERS_MAX]}… [cut: {len(text)} characters]")


def _details(details: Any) -> bytes:
    if details is None:
        return b""
    try:
        data = encode_value(details)
    except ValueError as error:
        return orjson.dumps({"details": str(error)})
    if len(data) > DETAILS_BYTES_MAX:
        return orjson.dumps({"details": f"cut: {len(data)} bytes are over {DETAILS_BYTES_MAX}"})
    return data


def _has_non_finite(value: Any) -> bool:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
        elif dataclasses.is_dataclass(item):
            stack.extend(getattr(item, field.name) for field in dataclasses.fields(item))
    return False


def _has_nul(value: Any) -> bool:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if "\0" in item:
                return True
        elif isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return False
