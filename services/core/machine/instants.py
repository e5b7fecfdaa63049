"""RFC 3339 texts and instants in microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def rfc3339(instant: int) -> str:
    """RFC 3339 text of an instant in microseconds, UTC."""
    return (_EPOCH + timedelta(microseconds=instant)).isoformat().replace("+00:00", "Z")


def parse_rfc3339(text: str) -> int | None:
    """Instant in microseconds of an RFC 3339 text with an offset, or None."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    if parsed.tzinfo is None:
        return None
    return (parsed - _EPOCH) // _MICROSECOND
