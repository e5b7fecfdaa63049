"""`MonitorService`: how far the roll-ups are, and what they say of the last minutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from services.adapters.bus import Bus
from services.adapters.clock import SystemClock
from services.adapters.grpc.calls import current_call
from services.adapters.grpc.server import GrpcServer
from services.adapters.metrics import version
from services.adapters.postgres.health import DatabaseHealth
from services.adapters.postgres.rollups import RollupStore
from services.adapters.wire.scalars import timestamp_of
from services.core.refusals import invalid_field
from services.core.rollups import ExecutionRollup, NodeRollup
from services.core.units import MINUTE
from services.monitor.duties.rollups import Rollups
from services.monitor.folding import STARTED
from weconnect.monitor.v1 import monitor_service_pb2 as pb
from weconnect.monitor.v1 import monitor_service_pb2_grpc as rpc

if TYPE_CHECKING:
    import grpc

MINUTES_DEFAULT = 5
MINUTES_MAX = 1440


@dataclass(slots=True)
class _Mean:
    count: int = 0
    total_us: int = 0

    def add(self, count: int, total_us: int) -> None:
        self.count += count
        self.total_us += total_us

    @property
    def milliseconds(self) -> float:
        return self.total_us / self.count / 1000 if self.count else 0.0


class MonitorServicer(rpc.MonitorServiceServicer):
    """Answers for the organization of the token."""

    def __init__(
        self,
        instance: str,
        clock: SystemClock,
        store: RollupStore,
        rollups: Rollups,
        bus: Bus,
        database: DatabaseHealth,
    ) -> None:
        self._instance = instance
        self._clock = clock
        self._store = store
        self._rollups = rollups
        self._bus = bus
        self._database = database
        self._started_at = clock.now()
        self.draining = False

    def register(self, server: GrpcServer) -> None:
        """Serve it. GrpcServer takes the generated functions' calls as a grpc.aio server does."""
        rpc.add_MonitorServiceServicer_to_server(self, cast("grpc.aio.Server", server))

    async def GetMonitorStatus(
        self, request: pb.GetMonitorStatusRequest, context: object
    ) -> pb.GetMonitorStatusResponse:
        """Cursors, lag, and the roll-ups of the last minutes of the caller's organization."""
        minutes = request.minutes or MINUTES_DEFAULT
        if not 0 < minutes <= MINUTES_MAX:
            raise invalid_field("minutes", "OUT_OF_RANGE", f"minutes must lie between 1 and {MINUTES_MAX}")
        organization_id = current_call().identity.organization_id
        now = self._clock.now()
        until = now - now % MINUTE + MINUTE
        since = until - minutes * MINUTE
        executions = await self._store.executions(organization_id, since, until)
        nodes = await self._store.nodes(organization_id, since, until)
        rollups = self._rollups
        return pb.GetMonitorStatusResponse(
            monitor_id=self._instance,
            version=version(),
            started_at=timestamp_of(self._started_at),
            draining=self.draining,
            database_connected=self._database.connected,
            nats_connected=self._bus.state == "connected",
            clock_offset_ms=self._clock.offset_us / 1000,
            cursors=[
                pb.CommitCursor(session=session, number=number, at=timestamp_of(at))
                for session, (number, at) in sorted(rollups.cursors.items())
            ],
            commits_applied=rollups.applied,
            commits_read_from_rows=rollups.applied,
            lag_ms=rollups.lag_us / 1000,
            execution_minutes=execution_minutes(executions),
            node_minutes=node_minutes(nodes),
        )


def execution_minutes(rows: list[ExecutionRollup]) -> list[pb.ExecutionMinute]:
    """One message a minute, all workflows and modes together."""
    messages: dict[int, pb.ExecutionMinute] = {}
    means: dict[int, _Mean] = {}
    fields = {
        STARTED: "started",
        "success": "succeeded",
        "failed": "failed",
        "cancelled": "cancelled",
        "timeout": "timed_out",
    }
    for row in rows:
        message = messages.setdefault(row.minute, pb.ExecutionMinute(minute=timestamp_of(row.minute)))
        name = fields[row.status]
        setattr(message, name, getattr(message, name) + row.count)
        if row.status != STARTED:
            mean = means.setdefault(row.minute, _Mean())
            mean.add(row.count, row.duration_sum_us)
            message.average_duration_ms = mean.milliseconds
    return [messages[minute] for minute in sorted(messages)]


def node_minutes(rows: list[NodeRollup]) -> list[pb.NodeMinute]:
    """One message a minute and node type."""
    messages: dict[tuple[int, str], pb.NodeMinute] = {}
    means: dict[tuple[int, str], _Mean] = {}
    for row in rows:
        key = (row.minute, row.node_type)
        message = messages.setdefault(
            key, pb.NodeMinute(minute=timestamp_of(row.minute), node_type=row.node_type)
        )
        message.succeeded += row.succeeded
        message.failed += row.failed
        message.timed_out += row.timed_out
        message.retried += row.retried
        message.lost += row.lost
        mean = means.setdefault(key, _Mean())
        mean.add(row.succeeded + row.failed + row.timed_out, row.duration_sum_us)
        message.average_duration_ms = mean.milliseconds
    return [messages[key] for key in sorted(messages)]
