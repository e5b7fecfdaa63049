"""The canonical form of a definition, form 1, and its hash: what makes two definitions the same version.

UTF-8 JSON of the parsed definition: keys sorted, absent and default fields left out, integers as integers,
doubles shortest with a point or an exponent, durations as seconds, enums unprefixed, no spaces.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from services.core.definition.model import Definition
from services.core.definition.plain import definition_to_plain

FORM = 1


def json_bytes(value: Any) -> bytes:
    """Canonical JSON of a value: sorted keys, no spaces, UTF-8. Raises `ValueError` for NaN."""
    return _encode(value).encode()


# One encoder for all: what makes it costs more than most values.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


def canonical_bytes(definition: Definition) -> bytes:
    """Canonical form of a definition."""
    return json_bytes(definition_to_plain(definition))


def content_hash(definition: Definition) -> bytes:
    """SHA-256 of the canonical form, 32 raw bytes. Compare it only with hashes of the same `FORM`."""
    return hashlib.sha256(canonical_bytes(definition)).digest()
