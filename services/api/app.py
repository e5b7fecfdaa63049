"""The parts of an api process, wired by `main` and used by the servicers."""

from __future__ import annotations

from dataclasses import dataclass

from services.adapters.bus import Bus
from services.adapters.clock import SystemClock
from services.adapters.grpc.server import GrpcServer
from services.adapters.postgres.feed import CommitFeed
from services.adapters.postgres.health import DatabaseHealth
from services.adapters.postgres.lists import ExecutionLists
from services.adapters.postgres.logs import LogStore
from services.adapters.postgres.starts import IdempotencyKeys
from services.adapters.tokens import Identity
from services.api.commanding import Commander
from services.api.ends import Ends
from services.api.hearing import Hearing
from services.api.metrics import ApiMetrics
from services.api.reading import Reader
from services.api.saving import Saver
from services.api.starting import Starter
from services.api.versions import Versions
from services.api.watches import Watches
from services.api.watching import Watching
from services.core.ids import uuid_text
from services.core.records import ExecutionRecord
from services.core.refusals import not_found


@dataclass(frozen=True, slots=True)
class App:
    """Everything that requests are served with."""

    instance_id: str
    clock: SystemClock
    bus: Bus
    metrics: ApiMetrics
    versions: Versions
    saver: Saver
    starter: Starter
    commander: Commander
    reader: Reader
    lists: ExecutionLists
    keys: IdempotencyKeys
    logs: LogStore
    feed: CommitFeed
    ends: Ends
    watches: Watches
    watching: Watching
    hearing: Hearing
    database: DatabaseHealth
    server: GrpcServer

    async def owned(self, identity: Identity, execution_id: bytes) -> ExecutionRecord:
        """The record of an execution of the caller's organization. Raises Refusal for any other."""
        record = await self.reader.record(execution_id)
        if record is None or record.start.organization_id != identity.organization_id:
            raise not_found("execution", uuid_text(execution_id))
        return record
