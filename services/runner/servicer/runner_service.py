"""`weconnect.runner.v1.RunnerService`: how this process is doing, and what it can run."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import psutil

from services.adapters.clock import SystemClock
from services.adapters.grpc.server import GrpcServer
from services.adapters.metrics import version
from services.adapters.wire.scalars import timestamp_of
from services.core.ids import uuid_text
from services.core.refusals import invalid_field
from services.runner.handlers import Handler, Handlers
from services.runner.held import Held, HeldTasks, Stage
from services.runner.metrics import CANCELLED_WORD, FAILED, SUCCESS, RunnerMetrics
from services.runner.nodes import BUILT_IN
from services.runner.pulse import Announcement
from weconnect.runner.v1 import runner_service_pb2 as pb
from weconnect.runner.v1 import runner_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    import grpc

ACTIVE_ATTEMPTS_MAX = 1_000
PAGE_SIZE_DEFAULT = 20
PAGE_SIZE_MAX = 100


class RunnerServicer(pb_grpc.RunnerServiceServicer):
    """Answers from the memory of this process."""

    def __init__(
        self,
        announcement: Announcement,
        held: HeldTasks,
        handlers: Handlers,
        metrics: RunnerMetrics,
        clock: SystemClock,
        connected: Callable[[], bool],
        unconfirmed: Callable[[], int],
    ) -> None:
        self._announcement = announcement
        self._held = held
        self._handlers = handlers
        self._metrics = metrics
        self._clock = clock
        self._connected = connected
        self._unconfirmed = unconfirmed
        self._started_at = clock.now()
        self._process = psutil.Process()

    def register(self, server: GrpcServer) -> None:
        """Serve it. GrpcServer takes the generated functions' calls as a grpc.aio server does."""
        pb_grpc.add_RunnerServiceServicer_to_server(self, cast("grpc.aio.Server", server))

    async def GetRunnerStatus(
        self, request: pb.GetRunnerStatusRequest, context: Any
    ) -> pb.GetRunnerStatusResponse:
        """State of this process."""
        says = self._announcement
        times = self._process.cpu_times()
        begun = [held for held in self._held.snapshot() if held.started_at]
        return pb.GetRunnerStatusResponse(
            runner_id=says.runner_id,
            version=version(),
            started_at=timestamp_of(self._started_at),
            draining=says.draining,
            nats_connected=self._connected(),
            clock_offset_ms=self._clock.offset_us / 1000,
            slots=self._held.slots,
            slots_used=self._held.running,
            task_queues=says.queues,
            node_types=says.node_types,
            active_attempts=[_attempt(held) for held in begun[:ACTIVE_ATTEMPTS_MAX]],
            unconfirmed_results=self._unconfirmed(),
            attempts_succeeded=self._metrics.attempts.of(SUCCESS),
            attempts_failed=self._metrics.attempts.of(FAILED),
            attempts_cancelled=self._metrics.attempts.of(CANCELLED_WORD),
            tasks_dropped=self._metrics.verdicts.of("dropped"),
            memory_usage_bytes=self._process.memory_info().rss,
            cpu_usage_seconds=times.user + times.system,
        )

    async def ListNodeTypes(self, request: pb.ListNodeTypesRequest, context: Any) -> pb.ListNodeTypesResponse:
        """Node types by name, a page at a time. Raises Refusal for a bad page."""
        size = request.page_size or PAGE_SIZE_DEFAULT
        if not 1 <= size <= PAGE_SIZE_MAX:
            raise invalid_field(
                "page_size", "OUT_OF_RANGE", f"page_size must lie between 1 and {PAGE_SIZE_MAX}"
            )
        after = _name_of(request.page_token) if request.page_token else ""
        left = [handler for handler in self._handlers.all() if handler.type > after]
        page = left[:size]
        token = _token_of(page[-1].type) if len(left) > size else ""
        return pb.ListNodeTypesResponse(
            node_types=[_node_type(handler) for handler in page], next_page_token=token
        )


def _attempt(held: Held) -> pb.ActiveAttempt:
    task = held.task
    return pb.ActiveAttempt(
        execution_id=uuid_text(task.execution_id),
        node_id=task.node_id,
        node_type=task.type,
        attempt=task.attempt,
        started_at=timestamp_of(held.started_at),
        unconfirmed=held.stage is Stage.ENDED,
        cancelling=held.stopping,
    )


def _node_type(handler: Handler) -> pb.NodeType:
    function = handler.function
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return pb.NodeType(
        name=handler.type,
        description=handler.description,
        builtin=handler.origin == BUILT_IN,
        handler=f"{function.__module__}:{name}",
    )


def _token_of(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _name_of(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError):
        raise invalid_field("page_token", "PAGE_TOKEN", "page_token is not one of this list's") from None
