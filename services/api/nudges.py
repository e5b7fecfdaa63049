"""Nudges to schedulers, gathered for one turn of the loop: a thousand starts of one batch are one message."""

from __future__ import annotations

import asyncio

from services.adapters.bus import Bus
from services.adapters.nats import topology
from services.adapters.wire.tasks import encode_nudge
from services.core.tasks import Nudge

IDS_MAX = 10_000


class Nudges:
    """Says that rows were written. May be lost: schedulers also look by themselves."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[str, list[bytes]] = {}

    def started(self, execution_id: bytes) -> None:
        """An execution was inserted."""
        self._add(topology.START, execution_id)

    def commanded(self, execution_id: bytes) -> None:
        """An execution has a new command."""
        self._add(topology.COMMAND, execution_id)

    def _add(self, subject: str, execution_id: bytes) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.setdefault(subject, []).append(execution_id)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for subject, ids in waiting.items():
            for first in range(0, len(ids), IDS_MAX):
                self._bus.publish(subject, encode_nudge(Nudge(ids[first : first + IDS_MAX])))
