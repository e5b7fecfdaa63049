"""`WorkflowService`."""

from __future__ import annotations

from typing import Any

from services.adapters.grpc.calls import current_call
from services.adapters.postgres.workflow_lists import WorkflowFilter, WorkflowLists
from services.adapters.wire.definitions import definition_from_proto
from services.adapters.wire.json_values import JsonRefused, parse_json
from services.adapters.wire.workflows import problem_messages, workflow_message
from services.api.app import App
from services.api.paging import PAGE_BYTES_MAX, decode_token, encode_token, filter_digest, page_size_of
from services.api.servicer.requests import NAME_CHARACTERS_MAX, Fields, full_view, order_of
from services.api.versions import LATEST, WorkflowChoice
from services.core.errors import Problem, Severity
from services.core.ids import parse_uuid, uuid_text
from services.core.records import WorkflowRow
from services.core.refusals import invalid
from weconnect.executions.v1 import workflow_service_pb2 as pb
from weconnect.executions.v1 import workflow_service_pb2_grpc as rpc

PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 20, 100
_ORDERS: dict[str, tuple[str, bool]] = {
    "": ("created_at", True),
    "created_at desc": ("created_at", True),
    "created_at": ("created_at", False),
    "created_at asc": ("created_at", False),
    "name": ("name", False),
    "name asc": ("name", False),
    "name desc": ("name", True),
}


class WorkflowServicer(rpc.WorkflowServiceServicer):
    """Saves, reads and checks workflows of the caller's organization."""

    def __init__(self, app: App, lists: WorkflowLists) -> None:
        self._app = app
        self._lists = lists

    async def CreateWorkflow(
        self, request: pb.CreateWorkflowRequest, context: object
    ) -> pb.CreateWorkflowResponse:
        """Save version 1 of a new workflow."""
        _check_request_id(request.request_id)
        plain, unread = _definition_of(request)
        saved, reviewed = await self._app.saver.create(current_call().identity, plain, unread)
        return pb.CreateWorkflowResponse(
            workflow=workflow_message(saved.workflow, saved.version, full=True, exact=request.exact_json),
            warnings=problem_messages(reviewed.problems),
        )

    async def UpdateWorkflow(
        self, request: pb.UpdateWorkflowRequest, context: object
    ) -> pb.UpdateWorkflowResponse:
        """Save the next version."""
        _check_request_id(request.request_id)
        fields = Fields()
        choice = _choice_of(fields, request)
        if request.expected_version < 0:
            fields.wrong("expected_version", "OUT_OF_RANGE", "it must be a version, or 0 for any")
        fields.finish()
        plain, unread = _definition_of(request)
        saved, reviewed = await self._app.saver.update(
            current_call().identity, choice, plain, unread, request.expected_version
        )
        return pb.UpdateWorkflowResponse(
            workflow=workflow_message(saved.workflow, saved.version, full=True, exact=request.exact_json),
            warnings=problem_messages(reviewed.problems),
        )

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, context: object) -> pb.GetWorkflowResponse:
        """Read one version."""
        identity = current_call().identity
        fields = Fields()
        choice = fields.choice(request)
        fields.finish()
        workflow = await self._app.versions.workflow(identity.organization_id, choice)
        row = await self._app.versions.find_row(identity.organization_id, choice)
        full = full_view(request.view, True)
        return pb.GetWorkflowResponse(
            workflow=workflow_message(workflow, row, full=full, exact=request.exact_json)
        )

    async def ListWorkflows(
        self, request: pb.ListWorkflowsRequest, context: object
    ) -> pb.ListWorkflowsResponse:
        """List workflows at their latest versions."""
        identity = current_call().identity
        fields = Fields()
        wanted = WorkflowFilter(
            fields.text("name_prefix", request.name_prefix, NAME_CHARACTERS_MAX),
            fields.labels(request.labels),
            fields.instant(request, "created_after"),
            fields.instant(request, "created_before"),
        )
        order, descending = order_of(fields, request.order_by, _ORDERS)
        size = page_size_of(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, fields.problems)
        fields.finish()
        digest = filter_digest(
            "workflows", identity.organization_id, order, descending, wanted.name_prefix, wanted.labels,
            wanted.created_after, wanted.created_before,
        )  # fmt: skip
        after = _place(decode_token(request.page_token, digest, (int, str, str)))
        rows = await self._lists.list(
            identity.organization_id, wanted, order=order, descending=descending, after=after, limit=size + 1
        )
        response = pb.ListWorkflowsResponse()
        full, room = full_view(request.view, False), PAGE_BYTES_MAX
        last: WorkflowRow | None = None
        for workflow, row in rows[:size]:
            version = (await self._app.versions.by_id(row.version_id)).row if full else row
            message = workflow_message(workflow, version, full=full, exact=request.exact_json)
            room -= message.ByteSize()
            if room < 0 and last is not None:
                break
            response.workflows.append(message)
            last = workflow
        if last is not None and len(response.workflows) < len(rows):
            response.next_page_token = encode_token(
                digest, (last.created_at, uuid_text(last.workflow_id), last.name)
            )
        return response

    async def ValidateWorkflow(
        self, request: pb.ValidateWorkflowRequest, context: object
    ) -> pb.ValidateWorkflowResponse:
        """Say everything that is wrong with a definition."""
        plain, unread = _definition_of(request, refuse=False)
        reviewed = await self._app.saver.review(plain, unread)
        return pb.ValidateWorkflowResponse(
            valid=reviewed.definition is not None,
            problems=problem_messages(reviewed.problems),
            content_hash=reviewed.content_hash.hex(),
        )


def _definition_of(request: Any, *, refuse: bool = True) -> tuple[Any, list[Problem]]:
    """Plain shape of the definition in a request, and what of it could not be read."""
    match request.WhichOneof("definition_value"):
        case "definition":
            return definition_from_proto(request.definition)
        case "definition_json":
            try:
                return parse_json(request.definition_json), []
            except JsonRefused as refused:
                problem = Problem("", "INVALID_JSON", str(refused), Severity.ERROR)
                if refuse:
                    raise invalid([problem], "INVALID_DEFINITION") from None
                return {}, [problem]
        case _:
            raise invalid([Problem("definition", "REQUIRED", "definition or definition_json is required")])


def _choice_of(fields: Fields, request: pb.UpdateWorkflowRequest) -> WorkflowChoice | None:
    match request.WhichOneof("workflow"):
        case "workflow_id":
            return WorkflowChoice(fields.uuid("workflow_id", request.workflow_id) or None, "", alias=LATEST)
        case "workflow_name":
            name = fields.text("workflow_name", request.workflow_name, NAME_CHARACTERS_MAX)
            return WorkflowChoice(None, name, alias=LATEST)
        case _:
            return None


def _check_request_id(request_id: str) -> None:
    fields = Fields()
    fields.text("request_id", request_id, NAME_CHARACTERS_MAX)
    fields.finish()


def _place(position: list[Any] | None) -> WorkflowRow | None:
    if position is None:
        return None
    created_at, workflow_id, name = position
    return WorkflowRow(parse_uuid(workflow_id), "", name, 0, created_at, 0, "")
