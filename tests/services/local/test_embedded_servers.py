"""The embedded servers: durable over kills, private, and gone with their launcher."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import tempfile
from pathlib import Path

import nats
import psutil
import psycopg
import pytest

from services.local import identity
from services.local.child import Child, ProcessFailed, RunAs
from services.local.nats import EmbeddedNats
from services.local.ports import free_port
from services.local.postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[3]

LAUNCHER = """
import asyncio, sys
from pathlib import Path
from services.local.nats import EmbeddedNats
from services.local.postgres import EmbeddedPostgres
async def main():
    postgres, nats = EmbeddedPostgres(Path(sys.argv[1]) / "postgres"), EmbeddedNats(Path(sys.argv[1]) / "nats")
    await asyncio.gather(postgres.start(), nats.start())
    print(postgres.pid, nats.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def _value(url: str, query: str) -> object:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(query)
        row = await cursor.fetchone() if cursor.description else None
        return row[0] if row else None


async def test_postgres_is_durable_private_and_of_the_wanted_settings(empty_database_url: str) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await _value(empty_database_url, f"SHOW {setting}") == "on"
    assert await _value(empty_database_url, "SHOW listen_addresses") == "127.0.0.1"
    assert await _value(empty_database_url, "SHOW unix_socket_directories") == ""
    assert await _value(empty_database_url, "SELECT lower('Ä')") == "ä"
    user, _, rest = empty_database_url.partition("@")
    with pytest.raises(psycopg.OperationalError, match="password"):
        await psycopg.AsyncConnection.connect(f"{user[:-4]}0000@{rest}")


async def test_postgres_keeps_what_it_acknowledged_over_a_kill(
    postgres: EmbeddedPostgres, empty_database_url: str
) -> None:
    await _value(empty_database_url, "CREATE TABLE kept (number int)")
    await _value(empty_database_url, "INSERT INTO kept VALUES (42)")
    processes = [psutil.Process(postgres.pid), *psutil.Process(postgres.pid).children(recursive=True)]
    port = postgres.port

    await postgres.kill()
    assert not [process for process in processes if process.is_running() and process.status() != "zombie"]
    with pytest.raises(psycopg.OperationalError):
        await _value(empty_database_url, "SELECT 1")

    await postgres.start()
    assert postgres.port == port
    assert await _value(empty_database_url, "SELECT number FROM kept") == 42


async def test_secrets_are_readable_by_their_owner_alone(
    postgres: EmbeddedPostgres, nats_server: EmbeddedNats
) -> None:
    for path in (postgres.directory / "password", nats_server.directory / "nats.conf"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_nats_keeps_streams_over_a_kill_and_loses_them_in_a_wipe(
    nats_server: EmbeddedNats, nats_url: str
) -> None:
    client = await nats.connect(nats_url)
    await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
    await client.jetstream().publish("kept", b"x")
    await client.close()

    await nats_server.kill()
    await nats_server.start()
    client = await nats.connect(nats_server.url)
    assert (await client.jetstream().stream_info("KEPT")).state.messages == 1
    await client.close()

    await nats_server.kill()
    nats_server.wipe()
    await nats_server.start()
    client = await nats.connect(nats_server.url)
    assert await client.jetstream().streams_info() == []
    await client.close()


async def test_nats_refuses_strangers(nats_server: EmbeddedNats, nats_url: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
    writer.write(b'CONNECT {"verbose":false,"user":"weconnect","pass":"guess"}\r\nPING\r\n')
    answers = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert b"Authorization Violation" in answers
    assert b"PONG" not in answers


async def test_servers_end_with_a_killed_launcher_and_the_data_can_be_used_again(tmp_path: Path) -> None:
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LAUNCHER, str(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert launcher.stdout is not None
    servers = [psutil.Process(int(pid)) for pid in (await launcher.stdout.readline()).split()]
    assert len(servers) == 2
    launcher.send_signal(signal.SIGKILL)
    await launcher.wait()

    again = EmbeddedPostgres(tmp_path / "postgres")
    await again.start()
    assert await _value(again.url, "SELECT 1") == 1
    await again.stop()
    await asyncio.to_thread(psutil.wait_procs, servers, 10)
    assert not [server for server in servers if server.is_running() and server.status() != "zombie"]


@pytest.mark.parametrize("forbidden", [{"namespace"}, {"namespace", "user"}])
async def test_root_without_user_namespaces(
    forbidden: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:  # then there is nobody to become, and nothing to refuse
        assert identity.choose_installation(tmp_path).run_as.how == "self"
        return
    real = identity._probe

    def probe(binaries: Path, run_as: RunAs) -> str | None:
        return "forbidden here" if run_as.how in forbidden else real(binaries, run_as)

    monkeypatch.setattr(identity, "_probe", probe)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as shared:
        os.chmod(shared, 0o755)
        monkeypatch.setattr(identity, "SHARED_ROOT", Path(shared))
        server = EmbeddedPostgres(tmp_path / "postgres")
        try:
            if "user" in forbidden:
                with pytest.raises(ProcessFailed, match="as an ordinary user"):
                    await server.start()
                return
            await server.start()
            assert psutil.Process(server.pid).uids().effective != 0
            assert await _value(server.url, "SELECT 1") == 1
            await server.kill()
            await server.start()
            assert await _value(server.url, "SELECT 1") == 1
        finally:
            await server.stop()
            server.remove()


async def test_a_child_that_cannot_start_says_so(tmp_path: Path) -> None:
    child = Child("nothing", ["/nonexistent"], tmp_path / "log")
    child.start()
    assert await child.wait() == 127
    assert "cannot run /nonexistent" in str(child.failure("failed"))


async def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    os.mkfifo(deaf)
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({!r}, 'w'); signal.pause()"
    child = Child("stubborn", [sys.executable, "-c", code.format(str(deaf))], tmp_path / "log")
    child.start()
    await asyncio.to_thread(deaf.read_bytes)
    assert await child.stop(grace_s=0.1) == -signal.SIGKILL
    assert not child.running


def test_ports_lie_below_those_that_connections_get() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < lowest for _ in range(20))
