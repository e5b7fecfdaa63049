"""`ApiService`: how this process is doing."""

from __future__ import annotations

from services.adapters.metrics import version
from services.adapters.wire.scalars import set_instant
from services.api.app import App
from weconnect.executions.v1 import api_service_pb2 as pb
from weconnect.executions.v1 import api_service_pb2_grpc as rpc


class ApiServicer(rpc.ApiServiceServicer):
    """Answers from memory; any valid token may ask."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._started_at = app.clock.now()

    async def GetApiStatus(self, request: pb.GetApiStatusRequest, context: object) -> pb.GetApiStatusResponse:
        """State of this process."""
        app, writer = self._app, self._app.starter.writer
        response = pb.GetApiStatusResponse(
            instance_id=app.instance_id,
            version=version(),
            draining=app.starter.draining,
            database_connected=app.database.connected,
            nats_connected=app.bus.state == "connected",
            clock_offset_ms=app.clock.offset_us / 1000,
            requests_in_flight=app.server.requests_in_flight,
            open_streams=len(app.server.streams),
            watched_executions=len(app.watches) + len(app.ends),
            executions_started=app.starter.accepted,
            commands_accepted=app.commander.accepted,
            commit_batches=writer.batches,
            last_batch_rows=writer.last_rows,
            last_batch_ms=writer.last_seconds * 1000,
        )
        set_instant(response.started_at, self._started_at)
        return response
