"""Wiring of api: everything is opened here, explicitly, and closed in reverse by the drain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, cast

from services.adapters.bus import BusError
from services.adapters.clock import SystemClock
from services.adapters.config import settings_or_exit
from services.adapters.grpc.server import GrpcServer
from services.adapters.ids import new_instance_id
from services.adapters.lifecycle import Duty, Process, run
from services.adapters.log import configure_logging
from services.adapters.metrics import DutyMetrics, new_registry
from services.adapters.nats.connection import connect
from services.adapters.ops_http import OpsServer, Readiness
from services.adapters.postgres.commands import CommandStore, CommandWriter
from services.adapters.postgres.errors import DatabaseUnavailableError
from services.adapters.postgres.feed import CommitFeed
from services.adapters.postgres.lists import ExecutionLists
from services.adapters.postgres.logs import LogStore
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.revision import until_schema_known
from services.adapters.postgres.sessions import SessionStore
from services.adapters.postgres.starts import IdempotencyKeys, StartWriter
from services.adapters.postgres.watching import WatchStore
from services.adapters.postgres.workflow_lists import WorkflowLists
from services.adapters.postgres.workflows import WorkflowStore
from services.adapters.tokens import TokenVerifier
from services.api.app import App
from services.api.commanding import Commander
from services.api.config import ApiSettings, read_settings
from services.api.ends import Ends
from services.api.health import DatabaseHealth
from services.api.hearing import Hearing
from services.api.metrics import ApiMetrics
from services.api.nudges import Nudges
from services.api.reading import Reader
from services.api.saving import Saver
from services.api.servicer.executions import ExecutionServicer
from services.api.servicer.status import ApiServicer
from services.api.servicer.workflows import WorkflowServicer
from services.api.starting import Starter
from services.api.versions import Versions
from services.api.watches import Watches
from services.api.watching import Watching
from services.core.graph import RetryDefaults
from weconnect.executions.v1 import api_service_pb2_grpc as api_rpc
from weconnect.executions.v1 import execution_service_pb2_grpc as execution_rpc
from weconnect.executions.v1 import workflow_service_pb2_grpc as workflow_rpc

if TYPE_CHECKING:
    import grpc

READ_CONNECTIONS = 4
WATCH_CONNECTIONS = 3
SWEEP_SECONDS = 1.0
VERDICT_SECONDS = 0.2
CLOCK_SECONDS = 5.0

# What a database or a bus that restarts raises: duties wait and try again.
TOLERATED = (DatabaseUnavailableError, BusError, OSError, TimeoutError)


def main() -> int:
    """Run an api process until it is told to end; returns the exit code."""
    settings = settings_or_exit("api", read_settings)
    configure_logging("api", settings.server.log_level)
    return run("api", lambda process: serve(process, settings))


async def serve(process: Process, settings: ApiSettings) -> App:
    """Open everything; returns once requests are served."""
    registry = new_registry("api")
    clock = SystemClock()
    readiness = Readiness("database", "nats", "grpc")
    ops = OpsServer(settings.server.http, registry, readiness)
    await ops.start()
    process.on_drain("http", ops.stop)

    pool = Pool(settings.database_url, size=READ_CONNECTIONS, application_name="wc-api")
    process.on_drain("database", pool.close)
    # Waiters and watchers never wait behind a list.
    watch_pool = Pool(settings.database_url, size=WATCH_CONNECTIONS, application_name="wc-api-watch")
    process.on_drain("watch database", watch_pool.close)
    await until_schema_known(pool)
    starts = StartWriter(settings.database_url)
    process.on_drain("start writer", starts.close)
    commands = CommandWriter(settings.database_url)
    process.on_drain("command writer", commands.close)

    bus = await connect(settings.nats.url, settings.nats.credentials or None, "api")
    process.on_drain("nats", bus.close)
    readiness.ready("nats")

    metrics = ApiMetrics(registry)
    starts.on_batch = metrics.batch
    nudges = Nudges(bus)
    watch_store, feed = WatchStore(watch_pool), CommitFeed(watch_pool)
    defaults = RetryDefaults(
        max_attempts=settings.executions.retry_attempts, base_delay_us=settings.executions.retry_delay_us
    )
    workflows = WorkflowStore(pool)
    versions = Versions(clock, workflows, watch_store, defaults)
    reader = Reader(watch_store, versions)
    keys = IdempotencyKeys(pool)
    ends = Ends(watch_store, metrics)
    watches = Watches(bus, feed, metrics)
    commander = Commander(clock, commands, CommandStore(watch_pool), nudges, metrics)
    metrics.watched.set_function(lambda: len(watches) + len(ends))

    duty_metrics = DutyMetrics(registry)

    def duty(name: str, run_once: Callable[[], Awaitable[Mapping[str, int]]], seconds: float) -> Duty:
        return Duty(name, run_once, seconds, tolerated=TOLERATED, metrics=duty_metrics)

    ends_sweep = duty("ends sweep", ends.sweep, SWEEP_SECONDS)
    watches_sweep = duty("watches sweep", watches.sweep, SWEEP_SECONDS)
    verdicts = duty("verdicts", commander.sweep, VERDICT_SECONDS)
    database = DatabaseHealth(clock, SessionStore(pool), readiness)
    await database.run_once()

    def missed() -> None:
        ends.missed()
        ends_sweep.wake()
        watches_sweep.wake()

    hearing = Hearing(clock, bus, ends, watches, commander, metrics, missed, verdicts.wake)
    starter = Starter(clock, versions, starts, reader, nudges, settings.executions, metrics)
    saver = Saver(clock, workflows, versions, hearing.known_types, settings.executions.default_timeout_us)
    token = settings.server.token
    verifier = TokenVerifier(token.public_key, token.issuer, token.audience, clock)
    server = GrpcServer(settings.server.grpc, verifier, clock, registry, channelz=settings.server.channelz)
    app = App(
        instance_id=new_instance_id("api"),
        clock=clock,
        bus=bus,
        metrics=metrics,
        versions=versions,
        saver=saver,
        starter=starter,
        commander=commander,
        reader=reader,
        lists=ExecutionLists(pool),
        keys=keys,
        logs=LogStore(pool),
        feed=feed,
        ends=ends,
        watches=watches,
        watching=Watching(clock, watch_store, reader, versions, watches),
        hearing=hearing,
        database=database,
        server=server,
    )
    hearing.open()
    for each in (ends_sweep, watches_sweep, verdicts, duty("database", database.run_once, CLOCK_SECONDS)):
        process.start(each)
    _add_services(app, WorkflowLists(pool))
    process.start(server.stream_duty())
    await server.start()
    process.on_drain("grpc", server.drain, timeout_s=30.0)
    readiness.ready("grpc")

    async def leave() -> None:
        readiness.drain()
        starter.draining = commander.draining = True
        ends.release()
        saver.close()

    process.on_drain("leave", leave)
    return app


def _add_services(app: App, workflow_lists: WorkflowLists) -> None:
    # GrpcServer takes the generated functions' calls as a grpc.aio server does.
    target = cast("grpc.aio.Server", app.server)
    workflow_rpc.add_WorkflowServiceServicer_to_server(WorkflowServicer(app, workflow_lists), target)
    execution_rpc.add_ExecutionServiceServicer_to_server(ExecutionServicer(app), target)
    api_rpc.add_ApiServiceServicer_to_server(ApiServicer(app), target)
