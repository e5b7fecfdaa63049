"""The ledger that fault tests believe: whole lines from several processes, in order."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.support.ledger import Ledger
from tests.support.stack import ROOT

WRITER = """
import sys
from tests.support.ledger import record
from weconnect import Context
for number in range(50):
    record(Context(node_id=sys.argv[1], idempotency_key="k" * (number % 7), attempt=number + 1), "x" * 100)
"""


async def test_several_processes_write_whole_lines(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.effects() == []
    env = {**ledger.environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}"}
    writers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, name, env=env)
        for name in ("a", "b")
    ]
    assert [await writer.wait() for writer in writers] == [0, 0]
    effects = ledger.effects()
    for name in ("a", "b"):
        assert [effect.attempt for effect in effects if effect.node == name] == list(range(1, 51))
    assert {node for _, node in ledger.attempts()} == {"a", "b"}
    assert {node for _, node in ledger.broken_keys()} == {"a", "b"}
