"""Commands: recorded once per request id, then their verdict is waited for. A deadline never takes one back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import orjson

from services.adapters.clock import Clock
from services.adapters.ids import new_request_id, new_uuid7
from services.adapters.log import get_logger
from services.adapters.postgres.commands import CommandStore, CommandWriter
from services.adapters.tokens import Identity
from services.api.metrics import ApiMetrics
from services.api.nudges import Nudges
from services.core.ids import uuid_text
from services.core.records import CommandRow, NewCommand
from services.core.refusals import Kind, Refusal, unavailable

CANCEL = "cancel"
ACCEPTED = "accepted"
IDS_MAX = 1_000

log = get_logger(__name__)


class Commander:
    """Records commands and hands out their verdicts."""

    def __init__(
        self, clock: Clock, writer: CommandWriter, store: CommandStore, nudges: Nudges, metrics: ApiMetrics
    ) -> None:
        self._clock = clock
        self._writer = writer
        self._store = store
        self._nudges = nudges
        self._metrics = metrics
        self._waiting: dict[bytes, tuple[bytes, list[asyncio.Future[CommandRow]]]] = {}
        self.accepted = 0
        self.draining = False

    @property
    def is_waiting(self) -> bool:
        """Whether anybody waits for a verdict."""
        return bool(self._waiting)

    async def command(
        self,
        identity: Identity,
        execution_id: bytes,
        kind: str,
        body: Mapping[str, object],
        request_id: str,
        seconds: float,
    ) -> CommandRow:
        """Record a command and return it with its verdict; a known request id returns the first verdict.

        Raises Refusal: IDEMPOTENCY_KEY_REUSED when the id was used for something else, DEADLINE when there is no
        verdict within `seconds`; the command stands then.
        """
        if self.draining:
            raise unavailable("DRAINING", "the server is draining; try again")
        now = self._clock.now()
        asked = NewCommand(
            command_id=new_uuid7(now),
            execution_id=execution_id,
            organization_id=identity.organization_id,
            request_id=request_id or new_request_id(),
            kind=kind,
            body=orjson.dumps(body, option=orjson.OPT_SORT_KEYS),
            created_at=now,
            requested_by=identity.user_id,
        )
        row = await self._writer.put(asked)
        recorded = row.command
        same = (recorded.execution_id, recorded.kind, recorded.body) == (execution_id, kind, asked.body)
        if not same:
            raise _reused(asked.request_id, recorded.execution_id)
        if recorded.command_id == asked.command_id:
            self.accepted += 1
            self._metrics.commands.of(kind).inc()
        if row.verdict is not None:
            return row
        self._nudges.commanded(execution_id)
        return await self._verdict(recorded, seconds)

    async def _verdict(self, command: NewCommand, seconds: float) -> CommandRow:
        future: asyncio.Future[CommandRow] = asyncio.get_running_loop().create_future()
        _, futures = self._waiting.setdefault(command.command_id, (command.execution_id, []))
        futures.append(future)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            message = "no scheduler has decided yet; the command stands, ask again with the same request id"
            metadata = {"requestId": command.request_id}
            raise Refusal(Kind.DEADLINE_EXCEEDED, "DEADLINE", message, metadata=metadata) from None
        finally:
            futures.remove(future)
            if not futures:
                self._waiting.pop(command.command_id, None)

    def concerns(self, execution_ids: Iterable[bytes]) -> bool:
        """Whether a commit that touched these may hold a verdict that is waited for."""
        if not self._waiting:
            return False
        touched = set(execution_ids)
        return any(execution_id in touched for execution_id, _ in self._waiting.values())

    async def sweep(self) -> Mapping[str, int]:
        """Ask once for all verdicts that are waited for: a refusal touches no execution, so no hint tells of it."""
        ids = list(self._waiting)
        found = 0
        for first in range(0, len(ids), IDS_MAX):
            for row in await self._store.decided(ids[first : first + IDS_MAX]):
                _, futures = self._waiting.get(row.command.command_id, (b"", []))
                for future in futures:
                    if not future.done():
                        future.set_result(row)
                        found += 1
        return {"waiting": len(ids), "found": found}


def _reused(request_id: str, execution_id: bytes) -> Refusal:
    text = uuid_text(execution_id)
    return Refusal(
        Kind.ALREADY_EXISTS,
        "IDEMPOTENCY_KEY_REUSED",
        f"request id {request_id} was used for something else",
        metadata={"requestId": request_id, "executionId": text},
        resource=("command", request_id),
    )
