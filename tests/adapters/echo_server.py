"""A gRPC server of ours around a servicer whose answers a test chooses, and a channel to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf import wrappers_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from services.adapters.clock import FixedClock
from services.adapters.config import Address
from services.adapters.grpc.errors import DOMAIN
from services.adapters.grpc.server import GrpcServer
from services.adapters.tokens import Identity, TokenVerifier, mint_for, new_key_pair

KEYS = new_key_pair()
SERVICE = "test.v1.EchoService"
Text = wrappers_pb2.StringValue


@dataclass
class Echo:
    """Servicer whose answer a test chooses."""

    answer: Callable[[str], Any] = lambda text: text
    streaming: asyncio.Event = field(default_factory=asyncio.Event)
    closed: list[str] = field(default_factory=list)
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def Unary(self, request: Any, context: Any) -> Any:
        self.serving.set()
        answer = self.answer(request.value)
        if isinstance(answer, Exception):
            raise answer
        if asyncio.iscoroutine(answer):
            answer = await answer
        return Text(value=answer)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield Text(value=request.value)
            self.streaming.set()
            if request.value == "flood":
                while True:
                    yield Text(value="x" * 100_000)
                    self.progress.set()
            await asyncio.Event().wait()
        finally:
            self.closed.append(request.value)
            self.ended.set()

    async def Collect(self, requests: Any, context: Any) -> Any:
        return Text(value=",".join([request.value async for request in requests]))

    async def Both(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield Text(value=request.value + "!")

    def methods(self) -> dict[str, Any]:
        codec: Any = {"request_deserializer": Text.FromString, "response_serializer": Text.SerializeToString}
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.Unary, **codec),
            "Watch": grpc.unary_stream_rpc_method_handler(self.Watch, **codec),
            "Collect": grpc.stream_unary_rpc_method_handler(self.Collect, **codec),
            "Both": grpc.stream_stream_rpc_method_handler(self.Both, **codec),
        }


@dataclass
class Running:
    """A server under test and a channel to it."""

    server: GrpcServer
    channel: grpc.aio.Channel
    echo: Echo
    clock: FixedClock
    registry: CollectorRegistry

    def token(
        self, lifetime_s: int = 600, roles: frozenset[str] = frozenset()
    ) -> tuple[tuple[str, str], ...]:
        who = Identity("acme", "ann", roles)
        token = mint_for(
            KEYS.private_key, who, issuer="i", audience="a", now=self.clock.now(), lifetime_s=lifetime_s
        )
        return (("authorization", f"Bearer {token}"),)

    async def unary(
        self, text: str = "hello", *, method: str = "Unary", raw: bytes | None = None, **options: Any
    ) -> str:
        call: Any = self.channel.unary_unary(f"/{SERVICE}/{method}")
        options.setdefault("metadata", self.token())
        body = Text(value=text).SerializeToString() if raw is None else raw
        return Text.FromString(await call(body, **options)).value

    def watch(self, text: str = "w", **options: Any) -> Any:
        options.setdefault("metadata", self.token())
        return self.channel.unary_stream(
            f"/{SERVICE}/Watch",
            request_serializer=Text.SerializeToString,
            response_deserializer=Text.FromString,
        )(Text(value=text), **options)


async def progressed(echo: Echo) -> bool:
    """Whether a flood goes on; False: its write waits for a reader."""
    echo.progress.clear()
    try:
        await asyncio.wait_for(echo.progress.wait(), 0.3)
    except TimeoutError:
        return False
    return True


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Running]:
    clock, registry, echo = FixedClock(), CollectorRegistry(), Echo()
    verifier = TokenVerifier(KEYS.public_key, "i", "a", clock)
    server = GrpcServer(Address("127.0.0.1", 0), verifier, clock, registry, descriptors=b"", **options)
    server.add_registered_method_handlers(SERVICE, echo.methods())
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Running(server, channel, echo, clock, registry)
    await server.drain(0)


async def refused(awaitable: Any) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo, dict[str, Any]]:
    """Code, the one ErrorInfo and the other details of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    metadata = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert status.code == caught.value.code().value[0]
    assert status.message == caught.value.details()
    found = {}
    for detail in status.details:
        name = detail.TypeName().rpartition(".")[2]
        assert name not in found, "each kind of detail at most once"
        found[name] = getattr(error_details_pb2, name).FromString(detail.value)
    info = found.pop("ErrorInfo")
    assert info.domain == DOMAIN
    return caught.value.code(), info, found
