"""Wiring of the monitor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.adapters.bus import Bus, BusError
from services.adapters.clock import SystemClock
from services.adapters.config import settings_or_exit
from services.adapters.grpc.server import GrpcServer
from services.adapters.ids import new_instance_id
from services.adapters.lifecycle import Duty, Process, run
from services.adapters.log import configure_logging
from services.adapters.metrics import DutyMetrics, new_registry
from services.adapters.nats import topology
from services.adapters.nats.connection import connect
from services.adapters.ops_http import OpsServer, Readiness
from services.adapters.postgres.errors import DatabaseUnavailableError
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.health import DatabaseHealth
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.revision import until_schema_known
from services.adapters.postgres.rollups import RollupStore
from services.adapters.postgres.sessions import SessionStore
from services.monitor.config import MonitorSettings, read_settings
from services.monitor.duties.rollups import Rollups
from services.monitor.metrics import MonitorMetrics
from services.monitor.servicer.status import MonitorServicer

CONNECTIONS = 2
READER = "monitor"
INTERVAL_SECONDS = 2.0
ASK_SECONDS = 2.0
ASK_MS = 3000
# Commits of this long are rolled up together while hints come in.
LOOK_SECONDS_MIN = 1.5
TOLERATED = (DatabaseUnavailableError, BusError, OSError, TimeoutError)


def main() -> int:
    """Run a monitor until it is told to end; returns the exit code."""
    settings = settings_or_exit("monitor", read_settings)
    configure_logging("monitor", settings.server.log_level)
    return run("monitor", lambda process: _serve(process, settings))


async def _serve(process: Process, settings: MonitorSettings) -> None:
    registry = new_registry("monitor")
    clock = SystemClock()
    readiness = Readiness("database", "nats")
    ops = OpsServer(settings.server.http, registry, readiness)
    await ops.start()
    process.on_drain("http", ops.stop)

    pool = Pool(settings.database_url, size=CONNECTIONS, application_name="wc-monitor", generic_plans=True)
    process.on_drain("database", pool.close)
    await until_schema_known(pool)
    bus = await connect(
        settings.nats.url,
        settings.nats.credentials or None,
        "monitor",
        on_reconnected=lambda: readiness.ready("nats"),
        on_disconnected=lambda: readiness.unready("nats", "no connection"),
    )
    process.on_drain("nats", bus.close)
    readiness.ready("nats")

    store = RollupStore(pool, READER)
    rollups = Rollups(clock, store, ExecutionStore(pool), MonitorMetrics(registry))
    # Whether the database answers is asked on a connection of its own: a silent one is cut, and told, within seconds.
    asking = Pool(
        settings.database_url, size=1, statement_timeout_ms=ASK_MS, application_name="wc-monitor-ask"
    )
    process.on_drain("ask", asking.close)
    database = DatabaseHealth(clock, SessionStore(asking), readiness)
    servicer = MonitorServicer(new_instance_id("monitor"), clock, store, rollups, bus, database)
    server = GrpcServer.of(settings.server, clock, registry)
    servicer.register(server)
    await server.start()
    process.on_drain("grpc", server.drain, timeout_s=30.0)
    process.start(server.stream_duty())
    _run(process, bus, rollups, database, DutyMetrics(registry))

    async def announce_drain() -> None:
        servicer.draining = True
        readiness.drain()

    process.on_drain("announce", announce_drain)


def _run(
    process: Process, bus: Bus, rollups: Rollups, database: DatabaseHealth, metrics: DutyMetrics
) -> None:
    duty = Duty("rollups", rollups.run_once, INTERVAL_SECONDS, tolerated=TOLERATED, metrics=metrics)
    process.start(duty)
    process.start(Duty("database", database.run_once, ASK_SECONDS, tolerated=TOLERATED, metrics=metrics))
    hints = Hints(duty.wake)
    bus.subscribe(topology.COMMITS, hints.hear)
    process.on_drain("hints", hints.close)


class Hints:
    """A hint ends the wait for the next look at the rows; it is not read. Many hints are one look."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None

    def hear(self, data: bytes, reply: str, subject: str) -> None:
        """Something was committed."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS_MIN, self._look)

    def _look(self) -> None:
        self._timer = None
        self._wake()

    async def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
