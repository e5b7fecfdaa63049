"""The table of a definition's fields: which kind of value each holds in the plain shape.

Parsing, writing back and the wire all read this table, so a field is added in the model and here, nowhere
else. A field's plain name is its name without `_us`.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any

from services.core.definition import model as m
from services.core.units import KIB

NAME_CHARACTERS_MAX = 128
DESCRIPTION_CHARACTERS_MAX = 4 * KIB
EXPRESSION_BYTES_MAX = 4 * KIB
TEXT_CHARACTERS_MAX = 2 * KIB
NODES_MAX = 10_000
EDGES_MAX = 50_000
ERROR_TYPES_MAX = 100
LABELS_MAX = 32
LABEL_KEY_CHARACTERS_MAX = 63
LABEL_VALUE_CHARACTERS_MAX = 255
CLEANUP_NODES_MAX = 100
INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Text:
    """Text of at most `limit` characters."""

    limit: int = TEXT_CHARACTERS_MAX


@dataclass(frozen=True, slots=True)
class Word:
    """One of few words, in any case, with or without its protobuf prefix; a text in the model."""

    choices: tuple[str, ...]
    prefix: str


@dataclass(frozen=True, slots=True)
class ExpressionText:
    """Source of an expression, at most `EXPRESSION_BYTES_MAX` bytes."""


@dataclass(frozen=True, slots=True)
class Integer:
    """Integer from `low` to `high`."""

    low: int = 0
    high: int = INT32_MAX


@dataclass(frozen=True, slots=True)
class Number:
    """Finite number."""


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Duration:
    """Duration, microseconds in the model."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Member of an enumeration, in any case, with or without its protobuf prefix."""

    enum: type[Enum]
    prefix: str


@dataclass(frozen=True, slots=True)
class JsonValue:
    """Any JSON; `empty_is_absent` when an empty object says the same as nothing."""

    empty_is_absent: bool = False


@dataclass(frozen=True, slots=True)
class JsonFields:
    """Object of JSON values by name."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Object of texts by name."""


@dataclass(frozen=True, slots=True)
class Record:
    """Object of the fields of `type`."""

    type: type[Any]


@dataclass(frozen=True, slots=True)
class Many:
    """List of at most `limit` values of one kind."""

    of: Kind
    limit: int


Kind = (
    Text
    | Word
    | ExpressionText
    | Integer
    | Number
    | Boolean
    | Duration
    | Choice
    | JsonValue
    | JsonFields
    | Labels
    | Record
    | Many
)

_PARAMETERS = JsonValue(empty_is_absent=True)
_NAME = Text(NAME_CHARACTERS_MAX)
_WORDS = Many(Text(NAME_CHARACTERS_MAX), ERROR_TYPES_MAX)
_DURATION = Duration()
_COUNT = Integer()
_RETRY = Record(m.RetryPolicy)
_TIMEOUTS = Record(m.Timeouts)
_INLINE = Record(m.InlineNode)
_END_STATES = ("SUCCESS", "FAILED", "CANCELLED", "TIMEOUT")

_KINDS: dict[type[Any], dict[str, Kind]] = {
    m.RetryPolicy: {
        "max_attempts": _COUNT,
        "backoff": Choice(m.Backoff, "BACKOFF_"),
        "base_delay_us": _DURATION,
        "coefficient": Number(),
        "max_delay_us": _DURATION,
        "jitter": Number(),
        "retryable_errors": _WORDS,
        "non_retryable_errors": _WORDS,
        "max_elapsed_us": _DURATION,
    },
    m.Timeouts: {
        "schedule_to_start_us": _DURATION,
        "start_to_close_us": _DURATION,
        "schedule_to_close_us": _DURATION,
        "heartbeat_us": _DURATION,
    },
    m.CircuitBreaker: {
        "key": ExpressionText(),
        "failure_threshold": _COUNT,
        "failure_rate": Number(),
        "minimum_calls": _COUNT,
        "window_us": _DURATION,
        "call_timeout_us": _DURATION,
        "reset_timeout_us": _DURATION,
        "probes": _COUNT,
    },
    m.InlineNode: {
        "type": _NAME,
        "parameters": _PARAMETERS,
        "retry_policy": _RETRY,
        "timeouts": _TIMEOUTS,
        "compensate_with": _INLINE,
    },
    m.Fallback: {"value": JsonValue(), "node": _INLINE},
    m.ToleratedFailures: {"count": _COUNT, "percent": Number()},
    m.ForEach: {
        "items": ExpressionText(),
        "max_concurrency": _COUNT,
        "batch_size": _COUNT,
        "tolerated_failures": Record(m.ToleratedFailures),
    },
    m.Repeat: {"until": ExpressionText(), "max_iterations": _COUNT, "delay_us": _DURATION},
    m.Cache: {
        "key": ExpressionText(),
        "ttl_us": _DURATION,
        "scope": Word(("WORKFLOW", "ORGANIZATION"), "CACHE_SCOPE_"),
    },
    m.Resources: {"slots": Integer(1, 1_000)},
    m.Node: {
        "id": Text(TEXT_CHARACTERS_MAX),
        "type": _NAME,
        "name": _NAME,
        "parameters": _PARAMETERS,
        "when": ExpressionText(),
        "join": Choice(m.Join, "JOIN_"),
        "quorum": _COUNT,
        "cancel_others": Boolean(),
        "retry_policy": _RETRY,
        "timeouts": _TIMEOUTS,
        "circuit_breaker": Record(m.CircuitBreaker),
        "fallback": Record(m.Fallback),
        "on_error": Choice(m.OnError, "ON_ERROR_"),
        "for_each": Record(m.ForEach),
        "repeat": Record(m.Repeat),
        "cache": Record(m.Cache),
        "compensate_with": _INLINE,
        "task_queue": _NAME,
        "priority": Choice(m.Priority, "PRIORITY_"),
        "resources": Record(m.Resources),
    },
    m.Edge: {
        "source": Text(TEXT_CHARACTERS_MAX),
        "target": Text(TEXT_CHARACTERS_MAX),
        "port": _NAME,
        "when": ExpressionText(),
        "error_types": _WORDS,
    },
    m.Concurrency: {
        "key": ExpressionText(),
        "limit": Integer(1),
        "over": Word(("QUEUE", "REJECT", "CANCEL_OLDEST"), "CONCURRENCY_OVER_"),
    },
    m.RateLimit: {"key": ExpressionText(), "count": Integer(1), "period_us": _DURATION, "burst": _COUNT},
    m.OnFailure: {"workflow": _NAME},
    m.Notify: {
        "states": Many(Word(_END_STATES, "EXECUTION_STATUS_"), len(_END_STATES)),
        "url": Text(),
        "subject": Text(),
    },
    m.Definition: {
        "name": _NAME,
        "nodes": Many(Record(m.Node), NODES_MAX),
        "edges": Many(Record(m.Edge), EDGES_MAX),
        "description": Text(DESCRIPTION_CHARACTERS_MAX),
        "input_schema": JsonValue(),
        "vars": JsonFields(),
        "output": JsonValue(),
        "strategy": Choice(m.Strategy, "STRATEGY_"),
        "max_parallel_nodes": _COUNT,
        "timeout_us": _DURATION,
        "default_retry_policy": _RETRY,
        "concurrency": Record(m.Concurrency),
        "rate_limit": Record(m.RateLimit),
        "on_failure": Record(m.OnFailure),
        "cleanup": Many(Record(m.Node), CLEANUP_NODES_MAX),
        "rollback": Choice(m.Rollback, "ROLLBACK_"),
        "notify": Record(m.Notify),
        "labels": Labels(),
        "retention_us": _DURATION,
    },
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: its name in the model and in the plain shape, its kind, and its default."""

    name: str
    plain: str
    kind: Kind
    required: bool
    default: Any


def fields_of(record: type[Any]) -> tuple[Field, ...]:
    """Fields of a record of the model, in its order."""
    return _FIELDS[record]


def by_plain_name(record: type[Any]) -> dict[str, Field]:
    """Fields of a record by their plain name, and by the lowerCamelCase form of it."""
    return _BY_NAME[record]


def _fields(record: type[Any], kinds: dict[str, Kind]) -> tuple[Field, ...]:
    declared = {field.name: field for field in fields(record)}
    found: list[Field] = []
    for name, kind in kinds.items():
        factory, default = declared[name].default_factory, declared[name].default
        if factory is not MISSING:
            default = factory()
        required = default is MISSING
        found.append(Field(name, name.removesuffix("_us"), kind, required, None if required else default))
    return tuple(found)


def camel_case(name: str) -> str:
    """lowerCamelCase of a snake_case name."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


_FIELDS = {record: _fields(record, kinds) for record, kinds in _KINDS.items()}
_BY_NAME = {
    record: {name: f for f in found for name in (camel_case(f.plain), f.plain)}
    for record, found in _FIELDS.items()
}
