"""Whole stacks of real processes for end-to-end and fault tests."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import grpc

from services.local.access import ORGANIZATION
from services.local.child import Child, ProcessFailed
from services.local.nats import EmbeddedNats
from services.local.postgres import EmbeddedPostgres
from services.local.service import Service
from services.local.stack import Part, Stack
from tests.support.ledger import Ledger

ROOT = Path(__file__).parents[2]
APPS = "tests.support.nodes:app,examples.shop:app"
LOG_LINES = 40
RESTART_SECONDS = 60.0
# Settings of whoever runs the tests must not change them.
_FOREIGN = ("WECONNECT_", "EXECUTION_", "PERFORMANCE_", "CIRCUIT_", "REDIS_", "WEBSOCKET_")

Metadata = tuple[tuple[str, str], ...]


def clean_environment() -> dict[str, str]:
    """Our environment without settings of services, and with our code on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk")])}


class StackUnderTest(Stack):
    """A stack with handlers that keep a ledger, and with ways to hurt it.

    Parts are named `postgres`, `nats`, `api-1`, `scheduler-1`, `scheduler-2` …
    """

    def __init__(
        self,
        directory: Path,
        *,
        counts: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
        commands: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.ledger = Ledger(directory / "ledger.jsonl")
        super().__init__(
            directory,
            counts=counts,
            commands=commands,
            env={
                **clean_environment(),
                "WECONNECT_APPS": APPS,
                **self.ledger.environment,
                **(env or {}),
            },
        )
        self._ended = False
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, name: str = "api-1") -> grpc.aio.Channel:
        """A channel to one process, kept open until the stack ends."""
        if name not in self._channels:
            self._channels[name] = grpc.aio.insecure_channel(
                self.services[name].grpc_address,
                # A killed process comes back within moments: look for it as often.
                options=[("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 50)],
            )
        return self._channels[name]

    def metadata(self, organization: str = ORGANIZATION, user: str = "tester") -> Metadata:
        """What a call of a user of an organization carries."""
        token = self.access.token(organization, user, frozenset({"admin"}))
        return (("authorization", f"Bearer {token}"),)

    def part(self, name: str) -> Part:
        """A part by name."""
        return next(part for part in self.parts if part.name == name)

    async def kill(self, name: str) -> None:
        """SIGKILL to a part; returns when it is gone."""
        await self.part(name).kill()

    async def restart(self, name: str) -> None:
        """Start a killed part again, at its old address; returns when it works.

        As under any supervisor, one that ends because something it needs is down too is started once more.
        """
        part = self.part(name)
        deadline = asyncio.get_running_loop().time() + RESTART_SECONDS
        while True:
            if self._ended:
                raise RuntimeError(f"the stack has ended: {name} is not started again")
            try:
                return await part.start()
            except ProcessFailed:
                await part.stop()
                if asyncio.get_running_loop().time() > deadline:
                    raise

    def freeze(self, name: str) -> None:
        """SIGSTOP to a service or NATS."""
        self._process(name).send(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT to it."""
        self._process(name).send(signal.SIGCONT)

    async def wipe_nats(self) -> None:
        """Lose the whole store of NATS, as with a lost disk; it is running again afterwards."""
        await self.nats.kill()
        self.nats.wipe()
        await self.nats.start()

    async def discard(self) -> None:
        """End everything, frozen processes too, and delete the data."""
        self._ended = True
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        await super().discard()

    def logs(self) -> dict[str, str]:
        """The end of every log, by file name."""
        paths = sorted((self.directory / "logs").glob("*.log"))
        return {path.stem: Child(path.stem, [], path).tail(LOG_LINES) for path in paths}

    def _process(self, name: str) -> Service | EmbeddedNats:
        part = self.part(name)
        if isinstance(part, EmbeddedPostgres):
            raise ValueError("PostgreSQL is several processes; kill it instead")
        return cast("Service | EmbeddedNats", part)


class Stacks:
    """Starts stacks for one test, or for all tests of a process, and ends them."""

    def __init__(self, new_directory: Callable[[], Path]) -> None:
        self.running: list[StackUnderTest] = []
        self._new_directory = new_directory

    async def start(
        self,
        *,
        counts: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
        commands: Mapping[str, Sequence[str]] | None = None,
    ) -> StackUnderTest:
        """A running stack; it ends with the test. Arguments as of `Stack`."""
        stack = StackUnderTest(self._new_directory(), counts=counts, env=env, commands=commands)
        self.running.append(stack)
        await stack.start()
        return stack

    def logs(self) -> dict[str, str]:
        """The end of every log of every stack."""
        return {
            f"{number}/{name}": text
            for number, stack in enumerate(self.running, start=1)
            for name, text in stack.logs().items()
        }


@asynccontextmanager
async def stacks_in(new_directory: Callable[[], Path]) -> AsyncIterator[Stacks]:
    """Stacks that all end, whatever happens."""
    stacks = Stacks(new_directory)
    try:
        yield stacks
    finally:
        for stack in stacks.running:
            await stack.discard()
