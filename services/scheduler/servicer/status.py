"""`SchedulerService`: what this scheduler does at the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from services.adapters.bus import Bus
from services.adapters.clock import SystemClock
from services.adapters.grpc.server import GrpcServer
from services.adapters.metrics import version
from services.adapters.wire.scalars import timestamp_of
from services.scheduler.dispatch import WINDOW_MIN, WINDOW_SLOTS_FACTOR
from services.scheduler.engine import Engine
from weconnect.scheduler.v1 import scheduler_service_pb2 as pb
from weconnect.scheduler.v1 import scheduler_service_pb2_grpc as rpc

if TYPE_CHECKING:
    import grpc


class SchedulerServicer(rpc.SchedulerServiceServicer):
    """Answers from memory; any valid token may ask."""

    def __init__(self, instance: str, clock: SystemClock, engine: Engine, bus: Bus) -> None:
        self._instance = instance
        self._clock = clock
        self._engine = engine
        self._bus = bus
        self._started_at = clock.now()

    def register(self, server: GrpcServer) -> None:
        """Serve it. GrpcServer takes the generated functions' calls as a grpc.aio server does."""
        rpc.add_SchedulerServiceServicer_to_server(self, cast("grpc.aio.Server", server))

    async def GetSchedulerStatus(
        self, request: pb.GetSchedulerStatusRequest, context: object
    ) -> pb.GetSchedulerStatusResponse:
        """Session, shards, executions in memory, commits, queues, runners."""
        engine, now = self._engine, self._clock.now()
        metrics, ownership = engine.metrics, engine.ownership
        return pb.GetSchedulerStatusResponse(
            scheduler_id=self._instance,
            version=version(),
            started_at=timestamp_of(self._started_at),
            draining=ownership.leaving,
            database_connected=now < ownership.lease_until,
            nats_connected=self._bus.state == "connected",
            clock_offset_ms=self._clock.offset_us / 1000,
            session=ownership.session,
            lease_expires_at=timestamp_of(ownership.lease_until) if ownership.session else None,
            shards=sorted(engine.owned),
            loaded_executions=len(engine.live),
            timers=engine.wakes.size,
            pending_commands=engine.inbox.pending,
            last_commit=engine.writer.number,
            commits=metrics.commits,
            events_committed=metrics.events,
            last_batch_events=metrics.last_events,
            last_batch_executions=metrics.last_executions,
            last_commit_ms=engine.writer.last_commit_seconds * 1000,
            lag_ms=engine.writer.lag_us() / 1000,
            tasks_dispatched=engine.dispatcher.published,
            executions_ended=metrics.ends,
            task_queues=self._queues(),
            runners=self._runners(),
            **await self._counts(),
        )

    async def _counts(self) -> dict[str, int]:
        awake, asleep, quarantined = await self._engine.counts()
        return {"open_executions": awake + asleep, "quarantined_executions": quarantined}

    def _queues(self) -> list[pb.TaskQueueStatus]:
        dispatcher = self._engine.dispatcher
        return [
            pb.TaskQueueStatus(
                name=queue,
                slots=dispatcher.slots.get(queue, 0),
                window=max(WINDOW_MIN, WINDOW_SLOTS_FACTOR * dispatcher.slots.get(queue, 0)),
                published=out,
                backlog=waiting,
            )
            for queue, (waiting, out) in sorted(dispatcher.depths().items())
        ]

    def _runners(self) -> list[pb.RunnerLease]:
        held: dict[str, int] = {}
        for live in self._engine.live.values():
            for flight in live.in_flight.values():
                if flight.runner_id:
                    held[flight.runner_id] = held.get(flight.runner_id, 0) + 1
        return [
            pb.RunnerLease(
                runner_id=runner.runner_id,
                last_heard_at=timestamp_of(runner.heard_at),
                held_attempts=held.get(runner.runner_id, 0),
                slots=runner.slots,
                draining=runner.draining,
            )
            for runner in self._engine.runners.known.values()
        ]
