"""Reads the inbox: commands of our shards without a verdict, never by a cursor (rows that commit late would be lost)."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from services.adapters.log import get_logger
from services.adapters.postgres.executions import ExecutionStore
from services.core.inputs import Cancel, Input
from services.core.records import CommandRow
from services.scheduler.items import CommandReply, Item

COMMANDS_MAX = 1000

log = get_logger(__name__)


class Inbox:
    """Queues commands for the writer, which decides them and writes their verdicts in one commit."""

    def __init__(self, rows: ExecutionStore, owned: set[int], put: Callable[[Item], None]) -> None:
        self._rows = rows
        self._owned = owned
        self._put = put
        self._queued: set[bytes] = set()
        self.pending = 0

    async def run_once(self) -> dict[str, int]:
        """Queue every command without a verdict that is not queued yet."""
        if not self._owned:
            return {}
        rows = await self._rows.unanswered_commands(sorted(self._owned), COMMANDS_MAX)
        self.pending = len(rows)
        fresh = [row for row in rows if row.command.command_id not in self._queued]
        # What was queued before and is still unanswered was in a batch that failed, or waits for its batch: it is
        # queued again on the next run, which changes nothing when both are decided.
        self._queued = {row.command.command_id for row in fresh}
        for row in fresh:
            happened = input_of(row)
            if happened is not None:
                self._put(Item(row.command.execution_id, happened, CommandReply(row.command.command_id)))
        return {"commands": len(rows), "queued": len(fresh)}


def input_of(row: CommandRow) -> Input | None:
    """What a command asks for; None for a kind of a newer release, which is left to it."""
    command = row.command
    match command.kind:
        case "cancel":
            body = orjson.loads(command.body) if command.body else {}
            return Cancel(str(body.get("reason", "")), command.requested_by, bool(body.get("force", False)))
        case _:
            log.warning("unknown command", kind=command.kind)
            return None
