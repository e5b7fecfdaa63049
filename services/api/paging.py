"""Pages: sizes within their bounds, and tokens that are bound to the filter they were made for."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from services.core.errors import Problem
from services.core.refusals import invalid
from services.core.units import MIB

PAGE_BYTES_MAX = MIB
TOKEN_CHARACTERS_MAX = 2048
DIGEST_CHARACTERS = 16


def page_size_of(requested: int, default: int, highest: int, problems: list[Problem]) -> int:
    """Page size of a request; 0 stands for the default."""
    if requested == 0:
        return default
    if not 1 <= requested <= highest:
        problems.append(
            Problem("page_size", "OUT_OF_RANGE", f"it must be between 1 and {highest}, or 0 for {default}")
        )
        return default
    return requested


def filter_digest(*parts: object) -> str:
    """What a token is bound to: a digest of the list's name, the organization and all filters."""
    data = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=_plain)
    return hashlib.sha256(data).hexdigest()[:DIGEST_CHARACTERS]


def encode_token(digest: str, position: Sequence[int | str]) -> str:
    """Opaque token of the place after the last row shown."""
    return base64.urlsafe_b64encode(orjson.dumps([digest, *position])).decode().rstrip("=")


def decode_token(token: str, digest: str, kinds: tuple[type, ...]) -> list[Any] | None:
    """Place of a token, None for an empty one. Raises Refusal when it is not ours or of another filter."""
    if not token:
        return None
    try:
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise ValueError
        parts = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        bound_to, *position = parts
        if bound_to != digest or len(position) != len(kinds):
            raise ValueError
        if any(type(part) is not kind for part, kind in zip(position, kinds, strict=True)):
            raise ValueError
    except (ValueError, TypeError):
        problem = Problem(
            "page_token", "INVALID_PAGE_TOKEN", "it is not a token of this list with these filters"
        )
        raise invalid([problem], "INVALID_PAGE_TOKEN") from None
    return list(position)


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError
