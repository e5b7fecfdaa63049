"""A whole stack on one machine: PostgreSQL, NATS, the schema, and the four services as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from services.local.access import Access
from services.local.child import Child
from services.local.files import write_private
from services.local.nats import EmbeddedNats
from services.local.postgres import EmbeddedPostgres
from services.local.service import KINDS, Service

MIGRATION = (sys.executable, "-m", "services.adapters.postgres.migrate")
LOOPBACK_NETWORK = "127.0.0.0/8"
DESCRIPTION_FILE = "stack.json"


class Part(Protocol):
    """A process of the stack. `start` returns when it works, `wait` when it has ended."""

    name: str

    @property
    def address(self) -> str:
        """host:port."""

    @property
    def pid(self) -> int:
        """Process id."""

    @property
    def running(self) -> bool:
        """True while it lives."""

    async def start(self) -> None:
        """Start it and wait until it works."""

    async def stop(self) -> None:
        """End it in order."""

    async def kill(self) -> None:
        """SIGKILL; return when it is gone."""

    async def wait(self) -> int:
        """Exit code, once it has ended."""


Report = Callable[[str, str], None]  # name of a part, what happens to it


class Stack:
    """Everything that one installation needs, with its state in one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        counts: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
        commands: Mapping[str, Sequence[str]] | None = None,
        migration: Sequence[str] = MIGRATION,
        report: Report = lambda name, what: None,
    ) -> None:
        """`counts`: processes of each service, one unless said. `env`: instead of our own environment.

        `commands`: other commands than `python -m services.KIND`, by kind.
        """
        self.directory = directory.absolute()
        self.access = Access(self.directory)
        self.postgres = EmbeddedPostgres(self.directory / "postgres", log=self._log("postgres"))
        self.nats = EmbeddedNats(self.directory / "nats", log=self._log("nats"))
        self.services: dict[str, Service] = {}
        self._counts = dict.fromkeys(KINDS, 1) | dict(counts or {})
        self._env = dict(os.environ if env is None else env)
        self._commands = dict(commands or {})
        self._migration = list(migration)
        self.report = report

    @property
    def parts(self) -> list[Part]:
        """All processes, in the order in which they start."""
        return [self.postgres, self.nats, *self.services.values()]

    def of(self, kind: str) -> list[Service]:
        """The processes of one service."""
        return [service for service in self.services.values() if service.kind == kind]

    async def start(self) -> None:
        """Start everything; returns when all is ready. Raises ProcessFailed; then call `stop`."""
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.access.environment()
        await _together(self._start(self.postgres), self._start(self.nats))
        self.report("schema", "migrating")
        await self.migrate()
        self.report("schema", "ready")
        for kind in KINDS:
            for _ in range(self._counts[kind]):
                self.add(kind)
        await _together(*(self._start(service) for service in self.services.values()))

    async def migrate(self) -> None:
        """Bring the database to the schema of this code. Raises ProcessFailed."""
        env = {**self._env, "WECONNECT_DATABASE_URL": self.postgres.url}
        migration = Child("migration", self._migration, self._log("migration"), env=env)
        migration.start()
        try:
            if await migration.wait() != 0:
                raise migration.failure(f"ended with code {migration.returncode}")
        finally:
            await migration.stop(signal.SIGKILL)

    def add(
        self, kind: str, env: Mapping[str, str] | None = None, command: Sequence[str] | None = None
    ) -> Service:
        """One more process of a service, not started yet. `env` comes on top of the stack's."""
        name = f"{kind}-{len(self.of(kind)) + 1}"
        service = Service(
            kind,
            name,
            env={**self.environment(kind), **(env or {})},
            log=self._log(name),
            command=command or self._commands.get(kind),
        )
        self.services[name] = service
        return service

    def environment(self, kind: str) -> dict[str, str]:
        """Variables of a service, without its addresses."""
        env = {**self._env, **self.access.environment(), "WECONNECT_NATS_URL": self.nats.url}
        if kind == "runner":
            env.pop("WECONNECT_DATABASE_URL", None)  # a runner has no database
            # On one machine the services that workflows call are on it as well.
            env.setdefault("WECONNECT_HTTP_ALLOW", LOOPBACK_NETWORK)
        else:
            env["WECONNECT_DATABASE_URL"] = self.postgres.url
        return env

    async def stop(self) -> None:
        """End everything in order: the services drain first, the database goes last."""
        await _together(*(self._stop(service) for service in self.services.values()))
        await self._stop(self.nats)
        await self._stop(self.postgres)

    async def discard(self) -> None:
        """End everything and delete the data: nobody will need it, so the servers are not given time to tidy up."""
        await _together(*(self._stop(service) for service in self.services.values()))
        for server in (self.nats, self.postgres):
            await server.kill()
            server.remove()
            self.report(server.name, "stopped")

    def describe(self) -> dict[str, Any]:
        """Where everything is, and a token: what `stack.json` holds. A kind's name means its first process."""
        first = {kind: services[0] for kind in KINDS if (services := self.of(kind))}
        others = {name: service for name, service in self.services.items() if service not in first.values()}
        named = {**first, **others}
        return {
            **{name: service.grpc_address for name, service in named.items()},
            "nats": self.nats.url,
            "postgres": self.postgres.url,
            "metrics": {name: f"http://{service.http_address}/metrics" for name, service in named.items()},
            "token": self.access.token(),
            "tls": False,
        }

    def write_description(self) -> Path:
        """Write `stack.json`, readable by its owner alone."""
        path = self.directory / DESCRIPTION_FILE
        write_private(path, json.dumps(self.describe(), indent=2) + "\n")
        return path

    async def _start(self, part: Part) -> None:
        self.report(part.name, "starting")
        await part.start()
        self.report(part.name, "ready")

    async def _stop(self, part: Part) -> None:
        if part.running:
            self.report(part.name, "stopping")
            await part.stop()
        self.report(part.name, "stopped")

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Do all at once; when one fails, end the others and raise what it raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
