"""`ExecutionService`, starting, waiting and steering."""

from __future__ import annotations

import asyncio

from services.adapters.grpc.calls import Call, current_call
from services.adapters.wire.executions import ShownExecution, execution_message
from services.api.app import App
from services.api.commanding import ACCEPTED, CANCEL
from services.api.ends import Ending
from services.api.servicer.requests import (
    NAME_CHARACTERS_MAX,
    REASON_CHARACTERS_MAX,
    WAIT_US_MAX,
    Fields,
    read_start,
    wrong_state,
)
from services.api.versions import Version
from services.core.ids import uuid_text
from services.core.records import ExecutionRecord
from services.core.refusals import Refusal, not_found
from services.core.units import DAY, SECOND
from weconnect.executions.v1 import execution_pb2
from weconnect.executions.v1 import execution_service_pb2 as pb

# Time kept of a call's deadline to answer in.
ANSWER_SECONDS = 0.2
TIMEOUT_US_MAX = 366 * DAY


class Starts:
    """Start, wait, cancel."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def StartExecution(
        self, request: pb.StartExecutionRequest, context: object
    ) -> pb.StartExecutionResponse:
        """Accept an execution; wait for its end if asked."""
        app, call = self._app, current_call()
        try:
            wanted, wait_seconds = read_start(request, TIMEOUT_US_MAX)
            start = await app.starter.check(call.identity, wanted)
            # Registered before the insert: an execution may end before its acknowledgement is here.
            with app.ends.expect(start.execution.execution_id) as ending:
                accepted = await app.starter.accept(start)
                if accepted.record is not None:
                    record = accepted.record
                    if wait_seconds:
                        record = await self._ended(ending, call, wait_seconds) or await self._current(record)
                    execution = await self._message(record, start.version, request.exact_json)
                    return pb.StartExecutionResponse(execution=execution)
        except Refusal as refusal:
            app.metrics.refused.of(refusal.reason).inc()
            raise
        record = await self._wait(call, accepted.execution_id, wait_seconds)
        execution = await self._message(record, None, request.exact_json)
        return pb.StartExecutionResponse(execution=execution, existing=True)

    async def WaitExecution(
        self, request: pb.WaitExecutionRequest, context: object
    ) -> pb.WaitExecutionResponse:
        """Answer when the execution has ended, or with its state when time is up."""
        call, fields = current_call(), Fields()
        execution_id = fields.uuid("execution_id", request.execution_id)
        timeout_us = fields.duration(request, "timeout", 0, WAIT_US_MAX)
        fields.finish()
        seconds = (WAIT_US_MAX if timeout_us is None else timeout_us) / SECOND
        record = await self._wait(call, execution_id, seconds)
        return pb.WaitExecutionResponse(execution=await self._message(record, None, request.exact_json))

    async def CancelExecution(
        self, request: pb.CancelExecutionRequest, context: object
    ) -> pb.CancelExecutionResponse:
        """Record the command and answer with its verdict."""
        app, call, fields = self._app, current_call(), Fields()
        execution_id = fields.uuid("execution_id", request.execution_id)
        reason = fields.text("reason", request.reason, REASON_CHARACTERS_MAX)
        request_id = fields.text("request_id", request.request_id, NAME_CHARACTERS_MAX)
        fields.finish()
        await app.owned(call.identity, execution_id)
        body = {"reason": reason, "force": request.force}
        seconds = max(call.remaining_s() - ANSWER_SECONDS, 0.0)
        row = await app.commander.command(call.identity, execution_id, CANCEL, body, request_id, seconds)
        record = await app.owned(call.identity, execution_id)
        if row.verdict != ACCEPTED and record.status != "cancelled":
            why = (row.verdict_body or b"").decode("utf-8", "replace") or "REFUSED"
            raise wrong_state(request.execution_id.lower(), record.status, why)
        return pb.CancelExecutionResponse(
            execution=await self._message(record, None, request.exact_json), request_id=row.command.request_id
        )

    async def _wait(self, call: Call, execution_id: bytes, seconds: float) -> ExecutionRecord:
        """The record of an execution of the caller's, once it has ended or time is up."""
        with self._app.ends.expect(execution_id) as ending:
            record = await self._app.owned(call.identity, execution_id)
            if not record.open or not seconds:
                return record
            return await self._ended(ending, call, seconds) or await self._current(record)

    async def _current(self, record: ExecutionRecord) -> ExecutionRecord:
        found = await self._app.reader.record(record.start.execution_id)
        if found is None:
            raise not_found("execution", uuid_text(record.start.execution_id))
        return found

    @staticmethod
    async def _ended(ending: Ending, call: Call, seconds: float) -> ExecutionRecord | None:
        """The record with which the execution ends; None when time is up first."""
        try:
            async with asyncio.timeout(min(seconds, call.remaining_s() - ANSWER_SECONDS)):
                return await ending
        except TimeoutError:
            return None

    async def _message(
        self, record: ExecutionRecord, version: Version | None, exact: bool
    ) -> execution_pb2.Execution:
        if record.open and record.status == "pending" and version is not None:
            # Just accepted: nothing has happened that could be read.
            context = version.workflow.initial_vars_json if version.workflow.initial_vars else b""
            return execution_message(ShownExecution(record, context), exact=exact)
        return execution_message(await self._app.reader.shown(record), exact=exact)
