"""Wiring of api: everything is opened here, explicitly, and closed in reverse by the drain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from services.adapters.bus import BusError
from services.adapters.clock import SystemClock
from services.adapters.config import settings_or_exit
from services.adapters.grpc.server import GrpcServer
from services.adapters.ids import new_instance_id
from services.adapters.lifecycle import Duty, Process, run
from services.adapters.log import configure_logging
from services.adapters.metrics import DutyMetrics, new_registry
from services.adapters.nats.connection import NatsBus, connect
from services.adapters.ops_http import OpsServer, Readiness
from services.adapters.postgres.commands import CommandStore, CommandWriter
from services.adapters.postgres.errors import DatabaseUnavailableError
from services.adapters.postgres.feed import CommitFeed
from services.adapters.postgres.health import DatabaseHealth
from services.adapters.postgres.lists import ExecutionLists
from services.adapters.postgres.logs import LogStore
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.revision import until_schema_known
from services.adapters.postgres.sessions import SessionStore
from services.adapters.postgres.starts import IdempotencyKeys, StartWriter
from services.adapters.postgres.watching import WatchStore
from services.adapters.postgres.workflow_lists import WorkflowLists
from services.adapters.postgres.workflows import WorkflowStore
from services.api.app import App
from services.api.commanding import Commander
from services.api.config import ApiSettings, read_settings
from services.api.ends import Ends
from services.api.hearing import Hearing
from services.api.metrics import ApiMetrics
from services.api.nudges import Nudges
from services.api.reading import Reader
from services.api.saving import Saver
from services.api.servicer.services import add_services
from services.api.starting import Starter
from services.api.versions import Versions
from services.api.watches import Watches
from services.api.watching import Watching
from services.core.graph import RetryDefaults

READ_CONNECTIONS = 4
WATCH_CONNECTIONS = 3
SWEEP_SECONDS = 1.0
VERDICT_SECONDS = 0.2
CLOCK_SECONDS = 5.0
DRAIN_SECONDS = 30.0

# What a database or a bus that restarts raises: duties wait and try again.
TOLERATED = (DatabaseUnavailableError, BusError, OSError, TimeoutError)


def main() -> int:
    """Run an api process until it is told to end; returns the exit code."""
    settings = settings_or_exit("api", read_settings)
    configure_logging("api", settings.server.log_level)
    return run("api", lambda process: serve(process, settings))


@dataclass(frozen=True, slots=True)
class _Stores:
    """Connections to the database and the bus."""

    pool: Pool
    # Waiters and watchers never wait behind a list.
    watch_pool: Pool
    starts: StartWriter
    commands: CommandWriter
    bus: NatsBus


async def serve(process: Process, settings: ApiSettings) -> App:
    """Open everything; returns once requests are served."""
    registry = new_registry("api")
    clock = SystemClock()
    readiness = Readiness("database", "nats", "grpc")
    ops = OpsServer(settings.server.http, registry, readiness)
    await ops.start()
    process.on_drain("http", ops.stop)
    stores = await _connect(process, settings, readiness)
    database = DatabaseHealth(clock, SessionStore(stores.pool), readiness)
    await database.run_once()

    duties = _Duties(DutyMetrics(registry))
    app = _build(settings, stores, clock, registry, database, duties)
    app.hearing.open()
    duties.start(process, app)
    add_services(app, WorkflowLists(stores.pool))
    await app.server.start()
    process.on_drain("grpc", app.server.drain, timeout_s=DRAIN_SECONDS)
    readiness.ready("grpc")

    async def leave() -> None:
        readiness.drain()
        app.starter.draining = app.commander.draining = True
        app.ends.release()
        app.saver.close()

    process.on_drain("leave", leave)
    return app


async def _connect(process: Process, settings: ApiSettings, readiness: Readiness) -> _Stores:
    url = settings.database_url
    pool = Pool(url, size=READ_CONNECTIONS, application_name="wc-api")
    process.on_drain("database", pool.close)
    watch_pool = Pool(url, size=WATCH_CONNECTIONS, application_name="wc-api-watch", generic_plans=True)
    process.on_drain("watch database", watch_pool.close)
    await until_schema_known(pool)
    starts = StartWriter(url)
    process.on_drain("start writer", starts.close)
    commands = CommandWriter(url)
    process.on_drain("command writer", commands.close)
    bus = await connect(
        settings.nats.url,
        settings.nats.credentials or None,
        "api",
        on_reconnected=lambda: readiness.ready("nats"),
        on_disconnected=lambda: readiness.unready("nats", "no connection"),
    )
    process.on_drain("nats", bus.close)
    readiness.ready("nats")
    return _Stores(pool, watch_pool, starts, commands, bus)


class _Duties:
    """The background loops, and what wakes them before their time."""

    def __init__(self, metrics: DutyMetrics) -> None:
        self._metrics = metrics
        self._wake: dict[str, Callable[[], None]] = {}

    def missed(self) -> None:
        """Hints were lost: ask now."""
        self._wake["ends sweep"]()
        self._wake["watches sweep"]()

    def verdicts(self) -> None:
        """A commit may hold a verdict that is waited for."""
        self._wake["verdicts"]()

    def start(self, process: Process, app: App) -> None:
        """Run them until the drain."""
        for name, run_once, seconds in (
            ("ends sweep", app.ends.sweep, SWEEP_SECONDS),
            ("watches sweep", app.watches.sweep, SWEEP_SECONDS),
            ("verdicts", app.commander.sweep, VERDICT_SECONDS),
            ("database", app.database.run_once, CLOCK_SECONDS),
        ):
            duty = Duty(name, run_once, seconds, tolerated=TOLERATED, metrics=self._metrics)
            self._wake[name] = duty.wake
            process.start(duty)
        process.start(app.server.stream_duty())


def _build(
    settings: ApiSettings,
    stores: _Stores,
    clock: SystemClock,
    registry: CollectorRegistry,
    database: DatabaseHealth,
    duties: _Duties,
) -> App:
    """Everything that requests are served with, wired."""
    metrics = ApiMetrics(registry)
    stores.starts.on_batch = metrics.batch
    nudges = Nudges(stores.bus)
    watch_store, feed = WatchStore(stores.watch_pool), CommitFeed(stores.watch_pool)
    executions, workflows = settings.executions, WorkflowStore(stores.pool)
    defaults = RetryDefaults(max_attempts=executions.retry_attempts, base_delay_us=executions.retry_delay_us)
    versions = Versions(clock, workflows, watch_store, defaults)
    reader = Reader(watch_store, versions)
    ends, watches = Ends(watch_store, metrics), Watches(stores.bus, feed, metrics)
    metrics.watched.set_function(lambda: len(watches) + len(ends))
    commander = Commander(clock, stores.commands, CommandStore(stores.watch_pool), nudges, metrics)

    def missed() -> None:
        ends.missed()
        duties.missed()

    hearing = Hearing(clock, stores.bus, ends, watches, commander, metrics, missed, duties.verdicts)
    return App(
        instance_id=new_instance_id("api"),
        clock=clock,
        bus=stores.bus,
        metrics=metrics,
        versions=versions,
        saver=Saver(clock, workflows, versions, hearing.known_types, executions.default_timeout_us),
        starter=Starter(clock, versions, stores.starts, reader, nudges, executions, metrics),
        commander=commander,
        reader=reader,
        lists=ExecutionLists(stores.pool, clock.now),
        keys=IdempotencyKeys(stores.pool),
        logs=LogStore(stores.pool),
        feed=feed,
        ends=ends,
        watches=watches,
        watching=Watching(clock, watch_store, reader, versions, watches),
        hearing=hearing,
        database=database,
        server=GrpcServer.of(settings.server, clock, registry),
    )
