"""`ExecutionService`, reading what happened: node runs, history, logs."""

from __future__ import annotations

from services.adapters.grpc.calls import current_call
from services.adapters.wire.executions import (
    PAYLOAD_SHOWN_BYTES_MAX,
    log_message,
    node_run_message,
)
from services.adapters.wire.history import decode_events
from services.adapters.wire.public_history import history_event
from services.adapters.wire.scalars import NODE_STATUS
from services.api.app import App
from services.api.paging import PAGE_BYTES_MAX, decode_token, encode_token, filter_digest, page_size_of
from services.api.servicer.requests import NAME_CHARACTERS_MAX, Fields, full_view
from services.core import views
from weconnect.executions.v1 import execution_service_pb2 as pb

RUNS_DEFAULT, RUNS_MAX = 20, 100
LINES_DEFAULT, LINES_MAX = 100, 1_000
EVENTS_DEFAULT, EVENTS_MAX = 100, 1_000
NODES_FILTERED_MAX = 1_000
LOG_LEVEL_MAX = 4
# History rows read for one page: each holds the events of one commit.
ROWS_STEP = 50

_NODE_STATUSES = {number: status for status, number in NODE_STATUS.items()}


class Histories:
    """Node runs, events, log lines."""

    _app: App

    async def ListNodeRuns(self, request: pb.ListNodeRunsRequest, context: object) -> pb.ListNodeRunsResponse:
        """List node runs in the order of the definition."""
        app, fields = self._app, Fields()
        execution_id = fields.uuid("execution_id", request.execution_id)
        size = page_size_of(request.page_size, RUNS_DEFAULT, RUNS_MAX, fields.problems)
        unknown = [number for number in request.statuses if number not in _NODE_STATUSES]
        if unknown:
            fields.wrong("statuses", "UNKNOWN_VALUE", f"{unknown[0]} is not a value to filter by")
        if len(request.node_ids) > NODES_FILTERED_MAX:
            fields.wrong("node_ids", "TOO_MANY", f"at most {NODES_FILTERED_MAX}")
        fields.finish()
        statuses = {_NODE_STATUSES[number] for number in request.statuses}
        node_ids = set(request.node_ids)
        digest = filter_digest("node_runs", execution_id, sorted(request.statuses), sorted(node_ids))
        position = decode_token(request.page_token, digest, (int,))
        folded = await app.reader.folded(await app.owned(current_call().identity, execution_id))
        chosen = [
            index
            for index, node in enumerate(folded.state.nodes)
            if (not statuses or node.status in statuses)
            and (not node_ids or folded.state.workflow.nodes[index].id in node_ids)
            and (position is None or index > position[0])
        ]
        full = full_view(request.view, False)
        page = chosen[:size]
        outputs = await app.reader.outputs(folded.state, page) if full else {}
        response = pb.ListNodeRunsResponse()
        room = PAGE_BYTES_MAX
        for index in page:
            output = outputs.get(index, b"")
            message = node_run_message(
                views.node_run(folded.state, index),
                request.execution_id.lower(),
                output=output if len(output) <= PAYLOAD_SHOWN_BYTES_MAX else None,
                output_bytes=len(output),
                exact=request.exact_json,
            )
            room -= message.ByteSize()
            if room < 0 and response.node_runs:
                break
            response.node_runs.append(message)
        shown = len(response.node_runs)
        if shown and shown < len(chosen):
            response.next_page_token = encode_token(digest, (chosen[shown - 1],))
        return response

    async def GetExecutionHistory(
        self, request: pb.GetExecutionHistoryRequest, context: object
    ) -> pb.GetExecutionHistoryResponse:
        """Read events by page, oldest first."""
        app, identity, fields = self._app, current_call().identity, Fields()
        execution_id = fields.uuid("execution_id", request.execution_id)
        size = page_size_of(request.page_size, EVENTS_DEFAULT, EVENTS_MAX, fields.problems)
        if request.after_sequence < 0:
            fields.wrong("after_sequence", "OUT_OF_RANGE", "it must not be negative")
        fields.finish()
        digest = filter_digest("history", execution_id, request.after_sequence)
        position = decode_token(request.page_token, digest, (int,))
        after = request.after_sequence if position is None else position[0]
        record = await app.owned(identity, execution_id)
        workflow = (await app.versions.by_id(record.start.version_id)).workflow
        full = full_view(request.view, True)
        response = pb.GetExecutionHistoryResponse()
        room, more = PAGE_BYTES_MAX, True
        while more:
            rows = await app.feed.history(
                identity.organization_id, execution_id, after=after, limit=ROWS_STEP
            )
            more = len(rows) == ROWS_STEP
            for row in rows:
                for offset, event in enumerate(decode_events(row.events)):
                    sequence = row.sequence + offset
                    if sequence <= after:
                        continue
                    if len(response.events) >= size:
                        response.next_page_token = encode_token(digest, (after,))
                        return response
                    message = history_event(
                        event, sequence, row.at, workflow, full=full, exact=request.exact_json
                    )
                    room -= message.ByteSize()
                    if room < 0 and response.events:
                        response.next_page_token = encode_token(digest, (after,))
                        return response
                    response.events.append(message)
                    after = sequence
        return response

    async def ListExecutionLogs(
        self, request: pb.ListExecutionLogsRequest, context: object
    ) -> pb.ListExecutionLogsResponse:
        """List log lines, oldest first."""
        app, identity, fields = self._app, current_call().identity, Fields()
        execution_id = fields.uuid("execution_id", request.execution_id)
        size = page_size_of(request.page_size, LINES_DEFAULT, LINES_MAX, fields.problems)
        node_id = fields.text("node_id", request.node_id, NAME_CHARACTERS_MAX)
        if not 0 <= request.min_level <= LOG_LEVEL_MAX:
            fields.wrong("min_level", "UNKNOWN_VALUE", "it is not a value of this enum")
        if request.after_sequence < 0:
            fields.wrong("after_sequence", "OUT_OF_RANGE", "it must not be negative")
        if request.attempt < 0:
            fields.wrong("attempt", "OUT_OF_RANGE", "attempts are numbered from 1")
        if request.attempt and not node_id:
            fields.wrong("attempt", "NEEDS_NODE", "an attempt is one of a node: give node_id too")
        fields.finish()
        digest = filter_digest(
            "logs", execution_id, request.min_level, node_id, request.attempt, request.after_sequence
        )
        position = decode_token(request.page_token, digest, (int,))
        after = request.after_sequence if position is None else position[0]
        await app.owned(identity, execution_id)
        rows = await app.logs.read(
            identity.organization_id,
            execution_id,
            after=after,
            limit=size + 1,
            level=request.min_level,
            node_id=node_id or None,
            attempt=request.attempt,
        )
        response = pb.ListExecutionLogsResponse()
        room = PAGE_BYTES_MAX
        for row in rows[:size]:
            message = log_message(row, request.execution_id.lower(), exact=request.exact_json)
            room -= message.ByteSize()
            if room < 0 and response.logs:
                break
            response.logs.append(message)
        if response.logs and len(response.logs) < len(rows):
            response.next_page_token = encode_token(digest, (response.logs[-1].sequence,))
        return response
