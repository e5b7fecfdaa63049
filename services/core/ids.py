"""How ids are used: their text, shards, idempotency keys. Fresh ids are made by `adapters.ids`, never here."""

from __future__ import annotations

import hashlib

SHARDS = 256


def shard_of(execution_id: bytes) -> int:
    """Shard (0–255) of an execution: the last byte of its UUIDv7, which is random."""
    return execution_id[15]


def uuid_text(id_bytes: bytes) -> str:
    """Canonical text (lower case, hyphens) of 16 raw bytes."""
    digits = id_bytes.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse_uuid(text: str) -> bytes:
    """16 raw bytes of a UUID's canonical text, in either case. Raises ValueError for anything else."""
    if len(text) != 36 or text[8] != "-" or text[13] != "-" or text[18] != "-" or text[23] != "-":
        raise ValueError("not a UUID")
    digits = text.replace("-", "")
    # bytes.fromhex skips spaces, which a UUID has none of.
    if len(digits) != 32 or not digits.isalnum():
        raise ValueError("not a UUID")
    return bytes.fromhex(digits)


def idempotency_key(key_root: bytes, node_path: str, iteration: int = 0) -> str:
    """Key that every attempt of one node's iteration carries to the outside: 32 hex digits.

    Made from the execution's key root (16 raw bytes), the node's path and the iteration, so that a retried
    charge is the same charge.
    """
    text = b"%b/%b/%d" % (key_root, node_path.encode(), iteration)
    return hashlib.sha256(text).hexdigest()[:32]
