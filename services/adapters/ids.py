"""The only maker of fresh ids: UUIDv7 (RFC 9562) from database time, and ids of requests and processes."""

from __future__ import annotations

import os
import uuid

UUID_BYTES = 16
_VERSION_7 = 0x7 << 12
_VARIANT = 0b10 << 62
_VARIANT_MASK = (1 << 62) - 1


def new_uuid7(at: int) -> bytes:
    """UUIDv7 as 16 raw bytes for the instant `at` (microseconds since the epoch).

    The 12 bits after the version hold the fraction of the millisecond (RFC 9562, 6.2, method 3), so that ids
    of one process sort by their microsecond; the 62 bits at the end are random, so shards are even.
    """
    milliseconds, fraction_us = divmod(at, 1000)
    head = (milliseconds << 16) | _VERSION_7 | ((fraction_us << 12) // 1000)
    tail = (int.from_bytes(os.urandom(8), "big") & _VARIANT_MASK) | _VARIANT
    return ((head << 64) | tail).to_bytes(UUID_BYTES, "big")


def lowest_id(at: int) -> bytes:
    """Bound for ranges by creation time: the 48 bits of an instant's millisecond, then zeros.

    Instants before or after all that ids can tell give the first or the last bound.
    """
    return (min(max(at // 1000, 0), 2**48 - 1) << 80).to_bytes(UUID_BYTES, "big")


def instant_of(id_bytes: bytes) -> int:
    """Microseconds since the epoch at which a UUIDv7 of `new_uuid7` was made (±1 µs)."""
    head = int.from_bytes(id_bytes[:8], "big")
    return (head >> 16) * 1000 + (((head & 0xFFF) * 1000 + 4095) >> 12)


def new_request_id() -> str:
    """Fresh id of a request or a correlation: 32 hex digits, random."""
    return os.urandom(16).hex()


def new_instance_id(kind: str) -> str:
    """Fresh name of a process (`runner-4f1c09ab…`): unique over restarts, safe in a NATS subject."""
    return f"{kind}-{uuid.uuid4().hex[:12]}"
