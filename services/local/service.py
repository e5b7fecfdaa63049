"""One process of one of the four services: how it is started, and when it is ready."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

from services.local.child import Child
from services.local.ports import LOOPBACK, free_port

KINDS = ("api", "scheduler", "runner", "monitor")
READY_SECONDS = 60.0
STOP_SECONDS = 40.0
_POLL_SECONDS = 0.03
_REQUEST_SECONDS = 5.0


def default_command(kind: str) -> list[str]:
    """How a service is started everywhere."""
    return [sys.executable, "-m", f"services.{kind}"]


class Service:
    """A process that may be killed and started again; it keeps its addresses."""

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        env: Mapping[str, str],
        log: Path,
        command: Sequence[str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.grpc_address = f"{LOOPBACK}:{free_port()}"
        self.http_address = f"{LOOPBACK}:{free_port()}"
        addresses = {"WECONNECT_GRPC_ADDRESS": self.grpc_address, "WECONNECT_HTTP_ADDRESS": self.http_address}
        self.child = Child(name, command or default_command(kind), log, env={**env, **addresses}, cwd=cwd)

    @property
    def address(self) -> str:
        """Where it can be called: host:port of gRPC."""
        return self.grpc_address

    @property
    def pid(self) -> int:
        """Process id of the last start."""
        return self.child.pid

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self.child.running

    async def start(self) -> None:
        """Start it; returns when /readyz says so. Raises ProcessFailed."""
        self.child.start()
        await self.until_ready()

    async def until_ready(self, timeout_s: float = READY_SECONDS) -> None:
        """Return when it may be sent work. Raises ProcessFailed when it ends or takes too long."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        answer = "nothing answers"
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                try:
                    async with session.get(f"http://{self.http_address}/readyz") as response:
                        if response.status == 200:
                            return
                        answer = await response.text()
                except (aiohttp.ClientError, TimeoutError, OSError):
                    pass  # it does not listen yet
                if not self.running:
                    raise self.child.failure(f"ended with code {self.child.returncode} while starting")
                if asyncio.get_running_loop().time() > deadline:
                    raise self.child.failure(f"is not ready after {timeout_s:.0f} s ({answer})")
                await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        """Let it drain, then end it."""
        await self.child.stop(signal.SIGTERM, STOP_SECONDS)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self.running:
            self.child.send(signal.SIGKILL)
            await self.child.wait()

    async def wait(self) -> int:
        """Exit code, once it has ended."""
        return await self.child.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, SIGSTOP and SIGCONT say."""
        self.child.send(number)
