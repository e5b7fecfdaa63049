"""Wiring of the runner process: everything is opened here, explicitly, and closed in reverse by the drain."""

from __future__ import annotations

from functools import partial

from services.adapters.cel import CelCompiler
from services.adapters.clock import SystemClock
from services.adapters.config import settings_or_exit
from services.adapters.grpc.server import GrpcServer
from services.adapters.ids import new_instance_id
from services.adapters.lifecycle import Process, run
from services.adapters.log import configure_logging
from services.adapters.metrics import DutyMetrics, new_registry
from services.adapters.nats.connection import connect
from services.adapters.nats.puller import NatsTaskPuller
from services.adapters.ops_http import OpsServer, Readiness
from services.runner.config import RunnerSettings, read_settings
from services.runner.drain import seconds_max
from services.runner.handlers import Handlers
from services.runner.nodes import built_in
from services.runner.nodes.egress import Egress
from services.runner.nodes.http_request import HttpRequest
from services.runner.runner import Runner
from services.runner.servicer.runner_service import RunnerServicer

GRPC_DRAIN_SECONDS = 5.0


def main() -> int:
    """Run a runner until it is told to end; returns the exit code."""
    settings = settings_or_exit("runner", read_settings)
    configure_logging("runner", settings.server.log_level)
    return run("runner", lambda process: _serve(process, settings))


async def _serve(process: Process, settings: RunnerSettings) -> None:
    registry = new_registry("runner")
    clock = SystemClock()
    readiness = Readiness("nats", "pulse", "tasks")
    ops = OpsServer(settings.server.http, registry, readiness)
    await ops.start()
    process.on_drain("http", ops.stop)

    handlers = _handlers(process, settings, clock)
    runner_id = new_instance_id("runner")
    nats = partial(connect, settings.nats.url, settings.nats.credentials or None)
    bus = await nats(
        runner_id,
        on_reconnected=lambda: readiness.ready("nats"),
        on_disconnected=lambda: readiness.unready("nats", "no connection"),
    )
    process.on_drain("nats", bus.close)
    readiness.ready("nats")

    runner = Runner(
        runner_id, bus, partial(nats, f"{runner_id}-pulse"), handlers, CelCompiler(), clock, registry,
        slots=settings.slots, queues=settings.queues, drain_s=settings.drain_s,
    )  # fmt: skip
    server = GrpcServer.of(settings.server, clock, registry)
    RunnerServicer(
        runner.announcement, runner.held, handlers, runner.metrics, clock,
        connected=lambda: bus.state == "connected", unconfirmed=lambda: len(runner.outbox),
    ).register(server)  # fmt: skip
    await server.start()
    process.on_drain("grpc", partial(server.drain, GRPC_DRAIN_SECONDS), timeout_s=2 * GRPC_DRAIN_SECONDS)
    process.start(server.stream_duty())
    runner.announcement.address = f"{settings.server.grpc.host}:{server.port}"

    await runner.start()
    readiness.ready("pulse")
    process.start(runner.repeats.duty(DutyMetrics(registry)))
    process.spawn("pulse", runner.pulse.until_ended())
    process.on_drain("tasks", runner.drain, timeout_s=seconds_max(settings.drain_s))
    await runner.pull_from(NatsTaskPuller(bus, settings.queues, settings.slots, runner.deliver))
    readiness.ready("tasks")

    async def leave() -> None:
        readiness.drain()
        server.health.leave()

    process.on_drain("readiness", leave)


def _handlers(process: Process, settings: RunnerSettings, clock: SystemClock) -> Handlers:
    """The built-in node types, and those of the apps."""
    http = HttpRequest(Egress(settings.http_allowed), clock)
    process.on_drain("connections", http.close)
    handlers = Handlers(built_in(http))
    for app in settings.apps:
        handlers.add(app)
    return handlers
