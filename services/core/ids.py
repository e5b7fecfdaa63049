"""How ids are used: shards, idempotency keys. Fresh ids are made by `adapters.ids`, never here."""

from __future__ import annotations

import hashlib

SHARDS = 256


def shard_of(execution_id: bytes) -> int:
    """Shard (0–255) of an execution: the last byte of its UUIDv7, which is random."""
    return execution_id[15]


def idempotency_key(key_root: bytes, node_path: str, iteration: int = 0) -> str:
    """Key that every attempt of one node's iteration carries to the outside: 32 hex digits.

    Made from the execution's key root (16 raw bytes), the node's path and the iteration, so that a retried
    charge is the same charge.
    """
    text = b"%b/%b/%d" % (key_root, node_path.encode(), iteration)
    return hashlib.sha256(text).hexdigest()[:32]
