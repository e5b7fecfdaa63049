"""Wiring of the scheduler: everything is opened here, explicitly, and closed in reverse by the drain."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from functools import partial

from services.adapters.bus import Bus, BusError
from services.adapters.cel import CelCompiler
from services.adapters.clock import SystemClock
from services.adapters.config import settings_or_exit
from services.adapters.grpc.server import GrpcServer
from services.adapters.ids import new_instance_id
from services.adapters.lifecycle import Duty, Process, run
from services.adapters.log import configure_logging
from services.adapters.metrics import DutyMetrics, new_registry
from services.adapters.nats.connection import connect
from services.adapters.nats.publisher import NatsTaskPublisher
from services.adapters.ops_http import OpsServer, Readiness
from services.adapters.postgres.errors import DatabaseUnavailableError
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.logs import LogStore
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.revision import until_schema_known
from services.adapters.postgres.sessions import SessionStore
from services.core.graph import RetryDefaults
from services.scheduler.config import SchedulerSettings, read_settings
from services.scheduler.duties.sweeping import Sweeping
from services.scheduler.engine import Engine
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.ownership import Identity
from services.scheduler.servicer.status import SchedulerServicer

READ_CONNECTIONS = 4
READINESS_SECONDS = 0.5
# A lease is renewed every 1.5 s and ends after 6 s: whatever hangs longer is tried anew.
LEASE_STATEMENT_MS = 3000

# What a database or a bus that restarts raises: duties wait and try again.
TOLERATED = (DatabaseUnavailableError, BusError, OSError, TimeoutError)


def main() -> int:
    """Run a scheduler until it is told to end; returns the exit code."""
    settings = settings_or_exit("scheduler", read_settings)
    configure_logging("scheduler", settings.server.log_level)
    return run("scheduler", lambda process: _serve(process, settings))


async def _serve(process: Process, settings: SchedulerSettings) -> None:
    registry = new_registry("scheduler")
    clock = SystemClock()
    readiness = Readiness("database", "nats", "session")
    ops = OpsServer(settings.server.http, registry, readiness)
    await ops.start()
    process.on_drain("http", ops.stop)

    pool, lease_pool = _pools(process, settings.database_url)
    await until_schema_known(pool)
    readiness.ready("database")
    bus = await connect(
        settings.nats.url,
        settings.nats.credentials or None,
        "scheduler",
        on_reconnected=lambda: readiness.ready("nats"),
        on_disconnected=lambda: readiness.unready("nats", "no connection"),
    )
    process.on_drain("nats", bus.close)
    readiness.ready("nats")

    instance = new_instance_id("scheduler")
    identity = Identity(instance, str(settings.server.grpc))
    engine = _engine(settings, clock, bus, pool, lease_pool, identity, SchedulerMetrics(registry))
    dispatcher = engine.dispatcher
    publisher = NatsTaskPublisher(bus, dispatcher.confirmed, dispatcher.failed, queues=("default",))
    engine.connect(publisher)
    process.on_drain("publisher", publisher.close)

    server = GrpcServer.of(settings.server, clock, registry)
    SchedulerServicer(instance, clock, engine, bus).register(server)
    await server.start()
    process.on_drain("grpc", server.drain, timeout_s=30.0)
    process.start(server.stream_duty())

    await engine.observe_clock()
    await _run(process, engine, DutyMetrics(registry))
    process.start(Duty("readiness", partial(_tell_readiness, engine, clock, readiness), READINESS_SECONDS))

    async def announce_drain() -> None:
        readiness.drain()
        server.health.leave()

    process.on_drain("announce", announce_drain)


async def _tell_readiness(engine: Engine, clock: SystemClock, readiness: Readiness) -> None:
    """A scheduler whose lease has ended decides nothing: the database is away, or frozen, or another has taken over."""
    ownership = engine.ownership
    if ownership.session and clock.now() < ownership.lease_until:
        readiness.ready("session")
    else:
        readiness.unready("session", "no session, or its lease was not renewed")


def _pools(process: Process, database_url: str) -> tuple[Pool, Pool]:
    """Connections for reads, and one for the lease alone, which nothing else may hold up."""
    pool = Pool(database_url, size=READ_CONNECTIONS, application_name="wc-scheduler", generic_plans=True)
    process.on_drain("database", pool.close)
    lease_pool = Pool(
        database_url, size=1, application_name="wc-scheduler-lease", statement_timeout_ms=LEASE_STATEMENT_MS
    )
    process.on_drain("lease", lease_pool.close)
    return pool, lease_pool


def _engine(
    settings: SchedulerSettings,
    clock: SystemClock,
    bus: Bus,
    pool: Pool,
    lease_pool: Pool,
    identity: Identity,
    metrics: SchedulerMetrics,
) -> Engine:
    executions = settings.executions
    return Engine(
        clock=clock,
        bus=bus,
        rows=ExecutionStore(pool),
        logs=LogStore(pool),
        sessions=SessionStore(lease_pool),
        sweeping=Sweeping(pool),
        database_url=settings.database_url,
        identity=identity,
        compiler=CelCompiler(),
        defaults=RetryDefaults(
            max_attempts=executions.retry_attempts, base_delay_us=executions.retry_delay_us
        ),
        sampled=_sampler(settings),
        draw=random.Random().random,
        metrics=metrics,
    )


async def _run(process: Process, engine: Engine, metrics: DutyMetrics) -> None:
    """Start the writers, hear, open the session, start the duties."""
    process.spawn("writer", engine.writer.run())
    process.spawn("log writer", engine.log_writer.run())
    process.on_drain("engine", engine.leave)  # before the writers end: they finish what is decided
    engine.open()
    await engine.ownership.renew()
    for name, run_once, interval in engine.duties():
        duty = Duty(name, run_once, interval, tolerated=TOLERATED, metrics=metrics)
        engine.wakers[name] = duty.wake
        process.start(duty)


def _sampler(settings: SchedulerSettings) -> Callable[[bytes], bool]:
    """Whether an execution's attempts are sampled: by its id's hash, so that all schedulers agree."""
    rate = settings.sampling.rate if settings.sampling.enabled else 0.0
    threshold = int(rate * 2**32)

    def sampled(execution_id: bytes) -> bool:
        return zlib.crc32(execution_id) < threshold

    return sampled
