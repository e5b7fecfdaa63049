"""The bus over NATS: losing the server, getting it back, and never waiting without a bound."""

from __future__ import annotations

import asyncio
import base64
import signal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.adapters.bus import Disconnected, PayloadTooLarge
from services.adapters.nats import connection
from services.adapters.nats.connection import connect
from services.adapters.nats.credentials import CredentialsError, read_credentials
from services.local.nats import EmbeddedNats
from services.local.ports import free_port
from tests.adapters.nats.collecting import linked
from tests.support.collecting import Collected


async def test_subscriptions_and_kept_messages_survive_a_killed_server(
    nats_server: EmbeddedNats, nats_url: str
) -> None:
    async with linked(nats_url) as link:
        heard: Collected[str] = Collected()
        for shard in range(256):
            link.bus.subscribe(f"wc.owner.{shard}.*", lambda data, reply, subject: heard.add(subject))
        await link.bus.flush()
        await nats_server.kill()
        assert await link.lost.first() == "reconnecting"
        assert link.bus.publish("wc.owner.7.result", b"kept")
        await nats_server.start()
        assert await link.back.first() == "connected"
        link.bus.publish("wc.owner.255.ask", b"after")
        assert sorted(await heard.count(2)) == ["wc.owner.255.ask", "wc.owner.7.result"]


async def test_what_does_not_fit_the_buffer_is_reported(nats_server: EmbeddedNats, nats_url: str) -> None:
    async with linked(nats_url) as link:
        await nats_server.kill()
        await link.lost.first()
        data = bytes(512 * 1024)
        kept = [link.bus.publish("wc.beat", data) for _ in range(20)]
        assert kept[0]
        assert not kept[-1]
        assert link.bus.dropped == kept.count(False)
        await nats_server.start()
        await link.back.first()
        assert link.bus.publish("wc.beat", b"")


async def test_a_request_ends_with_its_connection(nats_server: EmbeddedNats, nats_url: str) -> None:
    async with linked(nats_url) as link:
        asked: Collected[bytes] = Collected()
        link.bus.subscribe("wc.command", lambda data, reply, subject: asked.add(data))
        request = asyncio.create_task(link.bus.request("wc.command", b"?", 60.0))
        await asked.first()
        await nats_server.kill()
        with pytest.raises(Disconnected):
            await request
        with pytest.raises(Disconnected):
            await link.bus.request("wc.command", b"?", 60.0)
        await nats_server.start()
        await link.back.first()


async def test_a_silent_partition_is_noticed_with_data_unsent(
    nats_server: EmbeddedNats, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PING_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(connection, "PONG_TIMEOUT_SECONDS", 0.3)
    async with linked(nats_url) as link:
        heard: Collected[bytes] = Collected()
        link.bus.subscribe("wc.start", lambda data, reply, subject: heard.add(data))
        await link.bus.flush()
        nats_server.send(signal.SIGSTOP)
        try:
            for _ in range(40):
                link.bus.publish("wc.beat", bytes(512 * 1024))
            await link.lost.first()
        finally:
            nats_server.send(signal.SIGCONT)
        await link.back.first()
        link.bus.publish("wc.start", b"again")
        assert b"again" in await heard.until(lambda items: b"again" in items)


async def test_an_error_of_the_server_does_not_end_the_bus(nats_url: str) -> None:
    async with linked(nats_url) as link:
        link.bus.publish("wc..beat", b"an empty token is harmless or an error, but never the end")
        client = link.bus._client
        assert client is not None
        client.send(b"NONSENSE\r\n")
        await link.back.first()
        await link.bus.flush()


async def test_closing_is_bounded_when_the_server_does_not_answer(
    nats_server: EmbeddedNats, nats_url: str
) -> None:
    bus = await connect(nats_url)
    bus.subscribe("wc.start", lambda data, reply, subject: None)
    nats_server.send(signal.SIGSTOP)
    try:
        async with asyncio.timeout(5.0):
            await bus.close(0.2)
            await bus.close(0.2)
    finally:
        nats_server.send(signal.SIGCONT)
    assert bus.state == "closed"
    assert not bus.publish("wc.start", b"")


async def test_closing_is_bounded_when_the_server_is_gone(nats_server: EmbeddedNats, nats_url: str) -> None:
    async with linked(nats_url) as link:
        await nats_server.kill()
        await link.lost.first()
        async with asyncio.timeout(5.0):
            await link.bus.close(0.2)
    await nats_server.start()


async def test_nobody_there_and_wrong_passwords_are_said() -> None:
    with pytest.raises(Disconnected, match="no connection to 127"):
        await connect(f"nats://somebody:secret@127.0.0.1:{free_port()}", timeout=0.0)


async def test_wrong_password(nats_server: EmbeddedNats, nats_url: str) -> None:
    with pytest.raises(Disconnected) as caught:
        await connect(f"nats://somebody:secret@{nats_server.address}", timeout=0.0)
    assert "secret" not in str(caught.value)


async def test_a_callback_that_raises_stops_nothing(nats_url: str) -> None:
    async with linked(nats_url) as link:
        heard: Collected[bytes] = Collected()

        def hear(data: bytes, reply: str, subject: str) -> None:
            heard.add(data)
            raise RuntimeError(data)

        link.bus.subscribe("wc.start", hear)
        link.bus.publish("wc.start", b"1")
        link.bus.publish("wc.start", b"2")
        assert await heard.count(2) == [b"1", b"2"]


async def test_the_longest_payload_passes_and_one_more_byte_does_not(nats_url: str) -> None:
    async with linked(nats_url) as link:
        heard: Collected[int] = Collected()
        link.bus.subscribe("wc.start", lambda data, reply, subject: heard.add(len(data)))
        link.bus.publish("wc.start", bytes(512 * 1024))
        with pytest.raises(PayloadTooLarge, match="524289 bytes"):
            link.bus.publish("wc.start", bytes(512 * 1024 + 1))
        assert await heard.first() == 512 * 1024


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0\r\n\r\n", "a\tb"])
async def test_malformed_subjects_are_refused(nats_url: str, subject: str) -> None:
    async with linked(nats_url) as link:
        with pytest.raises(ValueError, match="malformed"):
            link.bus.publish(subject, b"")
        with pytest.raises(ValueError, match="malformed"):
            link.bus.subscribe(subject, lambda data, reply, to: None)


def test_credentials_sign_with_the_seed(tmp_path: Path) -> None:
    raw = bytes(range(32))
    seed = base64.b32encode(b"\x91\x40" + raw + b"\x00\x00").decode().rstrip("=")
    path = tmp_path / "user.creds"
    path.write_text(
        "-----BEGIN NATS USER JWT-----\nheader.claims.signature\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    identity = read_credentials(path)
    assert identity.jwt() == b"header.claims.signature"
    public = Ed25519PrivateKey.from_private_bytes(raw).public_key()
    public.verify(base64.b64decode(identity.sign("nonce")), b"nonce")


def test_half_a_credentials_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "user.creds"
    path.write_text("-----BEGIN NATS USER JWT-----\nonly\n------END NATS USER JWT------\n")
    with pytest.raises(CredentialsError, match="needs"):
        read_credentials(path)
