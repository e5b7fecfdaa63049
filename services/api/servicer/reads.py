"""`ExecutionService`, reading."""

from __future__ import annotations

from typing import Any

from services.adapters.grpc.calls import current_call
from services.adapters.wire.executions import (
    PAYLOAD_SHOWN_BYTES_MAX,
    execution_message,
    progress_message,
)
from services.api.app import App
from services.api.paging import PAGE_BYTES_MAX, decode_token, encode_token, filter_digest, page_size_of
from services.api.reading import show
from services.api.servicer.requests import (
    NAME_CHARACTERS_MAX,
    Fields,
    filter_words,
    full_view,
    order_of,
)
from services.core import views
from services.core.ids import parse_uuid, uuid_text
from services.core.records import ExecutionFilter, ExecutionRecord
from services.core.refusals import not_found
from weconnect.executions.v1 import execution_service_pb2 as pb

PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 20, 100
_ORDERS = {"": False, "created_at desc": False, "created_at asc": True, "created_at": True}


class Reads:
    """Get and list."""

    _app: App

    async def GetExecution(self, request: pb.GetExecutionRequest, context: object) -> pb.GetExecutionResponse:
        """Read one execution, open or ended."""
        record = await self._find(request)
        if not full_view(request.view, True):
            shown = await self._app.reader.shown(record)
            return pb.GetExecutionResponse(execution=execution_message(shown, full=False))
        folded = await self._app.reader.folded(record)
        return pb.GetExecutionResponse(
            execution=execution_message(show(folded), exact=request.exact_json),
            progress=progress_message(views.progress(folded.state)),
        )

    async def _find(self, request: pb.GetExecutionRequest) -> ExecutionRecord:
        app, identity, fields = self._app, current_call().identity, Fields()
        match request.WhichOneof("key"):
            case "execution_id":
                execution_id = fields.uuid("execution_id", request.execution_id)
                fields.finish()
                return await app.owned(identity, execution_id)
            case "idempotency_key":
                key = fields.text("idempotency_key", request.idempotency_key, NAME_CHARACTERS_MAX)
                fields.finish()
                known = await app.keys.execution_of(identity.organization_id, key)
                if known is None:
                    raise not_found("execution", key)
                return await app.owned(identity, known.execution_id)
            case _:
                fields.wrong("execution_id", "REQUIRED", "execution_id or idempotency_key is required")
        fields.finish()
        raise AssertionError("unreachable")

    async def ListExecutions(
        self, request: pb.ListExecutionsRequest, context: object
    ) -> pb.ListExecutionsResponse:
        """List executions, open and ended, by creation."""
        app, organization_id, fields = self._app, current_call().identity.organization_id, Fields()
        oldest_first: bool = order_of(fields, request.order_by, _ORDERS)
        size = page_size_of(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, fields.problems)
        wanted = _filter_of(fields, request)
        workflow_name = fields.text("workflow_name", request.workflow_name, NAME_CHARACTERS_MAX)
        fields.finish()
        digest = filter_digest(
            "executions", organization_id, oldest_first, workflow_name, wanted.statuses, wanted.modes,
            wanted.workflow_id, wanted.user_id, wanted.labels, wanted.created_after, wanted.created_before,
        )  # fmt: skip
        position = decode_token(request.page_token, digest, (int, str))
        if workflow_name:
            named = await app.versions.named(organization_id, workflow_name)
            if named is None or wanted.workflow_id not in (None, named):
                return pb.ListExecutionsResponse()
            wanted = _of_workflow(wanted, named)
        after = None if position is None else (position[0], parse_uuid(position[1]))
        full = full_view(request.view, False)
        records = await app.lists.list(
            organization_id, wanted, limit=size + 1, after=after, oldest_first=oldest_first, payloads=full
        )
        response = pb.ListExecutionsResponse()
        room = PAGE_BYTES_MAX
        last: ExecutionRecord | None = None
        for shown in await app.reader.shown_in_list(records[:size], full=full):
            message = execution_message(
                shown, full=full, exact=request.exact_json, payload_bytes_max=PAYLOAD_SHOWN_BYTES_MAX
            )
            room -= message.ByteSize()
            if room < 0 and last is not None:
                break
            response.executions.append(message)
            last = shown.record
        if last is not None and len(response.executions) < len(records):
            place = (last.start.created_at, uuid_text(last.start.execution_id))
            response.next_page_token = encode_token(digest, place)
        return response


def _filter_of(fields: Fields, request: Any) -> ExecutionFilter:
    status_words, mode_words = filter_words()
    return ExecutionFilter(
        statuses=fields.words("statuses", request.statuses, status_words),
        modes=fields.words("modes", request.modes, mode_words),
        workflow_id=fields.uuid("workflow_id", request.workflow_id, required=False) or None,
        user_id=fields.text("user_id", request.user_id, NAME_CHARACTERS_MAX) or None,
        labels=fields.labels(request.labels),
        created_after=fields.instant(request, "created_after"),
        created_before=fields.instant(request, "created_before"),
    )


def _of_workflow(wanted: ExecutionFilter, workflow_id: bytes) -> ExecutionFilter:
    return ExecutionFilter(
        statuses=wanted.statuses,
        modes=wanted.modes,
        workflow_id=workflow_id,
        user_id=wanted.user_id,
        labels=wanted.labels,
        created_after=wanted.created_after,
        created_before=wanted.created_before,
    )
