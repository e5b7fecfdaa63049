"""Structured logs: one JSON object a line on stderr, with what is bound to the task. Secrets never."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, BinaryIO

import orjson
import structlog

LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40}
REDACTED = "[redacted]"
TEXT_BYTES_MAX = 8192
# Parts of field names whose values never reach a log.
_SECRET_WORDS = ("password", "secret", "authorization", "credential", "private_key", "token", "database_url")


class _Threshold:
    """Lowest level that is written; asked where even a dropped line would cost too much."""

    level = LEVELS["INFO"]


def writes_debug() -> bool:
    """Whether lines of level DEBUG are written."""
    return _Threshold.level <= LEVELS["DEBUG"]


def get_logger(name: str) -> Any:
    """Logger of a module; `event` is the first argument, fields are keywords."""
    return structlog.get_logger(module=name)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add fields (`execution_id`, `node_id`, `attempt`, `request_id`) to every line of the current task."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


_SUBJECT: ContextVar[Callable[[], Mapping[str, object]] | None] = ContextVar(
    "weconnect_subject", default=None
)


def speak_of(subject: Callable[[], Mapping[str, object]]) -> None:
    """Add what `subject` returns to every line of the current task or thread; it is asked only when there is one.

    For what begins thousands of times a second and rarely logs: binding names costs more than many handlers.
    """
    _SUBJECT.set(subject)


def _add_subject(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    subject = _SUBJECT.get()
    if subject is not None:
        for name, value in subject().items():
            fields.setdefault(name, value)
    return fields


def configure_logging(process: str, level: str = "INFO", stream: BinaryIO | None = None) -> None:
    """Send logs of this process, and warnings of its libraries, to `stream` (stderr) as JSON lines."""

    _Threshold.level = LEVELS[level]

    def add_process(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        fields["process"] = process
        return fields

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_subject,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_process,
            structlog.processors.format_exc_info,
            _redact,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(stream or sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler()]
    root.setLevel(max(LEVELS[level], logging.WARNING))


def _redact(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in fields:
        lowered = name.lower()
        if any(word in lowered for word in _SECRET_WORDS):
            fields[name] = REDACTED
    return fields


def _render(_: object, __: str, fields: MutableMapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        # A lone surrogate, an integer of 70 bits …: whoever logs it must not fail of that.
        return orjson.dumps({str(name): repr(value)[:TEXT_BYTES_MAX] for name, value in fields.items()})


def _plain(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()[:TEXT_BYTES_MAX]
    return str(value)[:TEXT_BYTES_MAX]


class _LibraryHandler(logging.Handler):
    """Carries lines of libraries that use the standard `logging` into ours."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"module": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            fields["exc_info"] = record.exc_info
        logger = structlog.get_logger()
        if record.levelno >= logging.ERROR:
            logger.error(record.getMessage(), **fields)
        else:
            logger.warning(record.getMessage(), **fields)
