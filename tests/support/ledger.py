"""An independent ledger of effects: what handlers really did, whatever the engine says of it.

Handlers append a line to a file that no part of the engine knows, and it is on the disk before they go on. One
write of one line at the end of a file is whole even when several processes write and some are killed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from services.adapters.clock import SystemClock
from weconnect import Context

VARIABLE = "TEST_LEDGER"


@dataclass(frozen=True, slots=True)
class Effect:
    """One attempt that took effect. `at`: microseconds since the epoch, the machine's clock."""

    execution: str
    node: str
    attempt: int
    key: str
    at: int
    value: object = None


def record(ctx: Context, value: object = None) -> None:
    """Note that this attempt took effect; does nothing where no ledger is kept."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    at = SystemClock().now()
    effect = Effect(ctx.execution_id, ctx.node_id, ctx.attempt, ctx.idempotency_key, at, value)
    line = json.dumps(asdict(effect), separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError("the ledger took only a part of a line")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Ledger:
    """Reads the effects of one stack's handlers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def environment(self) -> dict[str, str]:
        """Variables of runners whose handlers write here."""
        return {VARIABLE: str(self.path)}

    def effects(self) -> list[Effect]:
        """All effects, in the order in which they happened."""
        if not self.path.exists():
            return []
        return [Effect(**json.loads(line)) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def attempts(self) -> Counter[tuple[str, str]]:
        """How often each node of each execution took effect, by (execution, node)."""
        return Counter((effect.execution, effect.node) for effect in self.effects())

    def broken_keys(self) -> dict[tuple[str, str], set[str]]:
        """Nodes whose attempts did not all have the same idempotency key, and keys of theirs."""
        keys: dict[tuple[str, str], set[str]] = {}
        for effect in self.effects():
            keys.setdefault((effect.execution, effect.node), set()).add(effect.key)
        return {node: found for node, found in keys.items() if len(found) > 1}
