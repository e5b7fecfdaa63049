"""`ExecutionService`: its methods by what they do, put together, and the stream of a watch."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.adapters.grpc.calls import current_call
from services.adapters.wire.executions import execution_message, log_message, progress_message
from services.adapters.wire.scalars import REASON_NUMBERS, STATUS_NUMBERS, set_instant
from services.adapters.wire.watches import put_change
from services.api.servicer.histories import Histories
from services.api.servicer.reads import Reads
from services.api.servicer.requests import Fields
from services.api.servicer.starts import Starts
from services.api.watching import Update, WatchRequest
from weconnect.executions.v1 import execution_service_pb2 as pb
from weconnect.executions.v1 import execution_service_pb2_grpc as rpc


class ExecutionServicer(Starts, Reads, Histories, rpc.ExecutionServiceServicer):
    """Starts, reads, watches and steers executions of the caller's organization."""

    async def WatchExecution(
        self, request: pb.WatchExecutionRequest, context: object
    ) -> AsyncIterator[pb.WatchExecutionResponse]:
        """Stream an execution's changes until it has ended."""
        fields = Fields()
        execution_id = fields.uuid("execution_id", request.execution_id)
        for path in ("after_sequence", "after_log_sequence"):
            if getattr(request, path) < 0:
                fields.wrong(path, "OUT_OF_RANGE", "it must not be negative")
        fields.finish()
        app = self._app
        record = await app.owned(current_call().identity, execution_id)
        wanted = WatchRequest(request.after_sequence, request.include_logs, request.after_log_sequence)
        text = request.execution_id.lower()
        async for update in app.watching.watch(record, wanted):
            app.metrics.watch_messages.inc()
            yield _message(update, text, request.exact_json)


def _message(update: Update, execution_id: str, exact: bool) -> pb.WatchExecutionResponse:
    message = pb.WatchExecutionResponse(
        sequence=update.sequence,
        log_sequence=update.log_sequence,
        status=STATUS_NUMBERS[update.status],
        status_reason=REASON_NUMBERS.get(update.status_reason.lower(), 0),
        progress=progress_message(update.progress),
        logs=[log_message(line, execution_id, exact=exact) for line in update.logs],
        heartbeat=update.heartbeat,
        final=update.ended is not None,
    )
    set_instant(message.at, update.at)
    for change in update.changes:
        put_change(message.node_changes.add(), change, exact=exact)
    if update.ended is not None:
        message.execution.CopyFrom(execution_message(update.ended, exact=exact))
    return message
