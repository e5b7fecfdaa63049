"""The gRPC chassis on a real server: identity, errors, deadlines, streams, health, reflection, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, wrappers_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client import CollectorRegistry, generate_latest

from services.adapters.clock import FixedClock
from services.adapters.config import Address
from services.adapters.grpc.calls import current_call
from services.adapters.grpc.errors import DOMAIN
from services.adapters.grpc.server import GrpcServer
from services.adapters.grpc.streams import STREAM_AGE_SECONDS_MAX, WRITE_SECONDS_MAX
from services.adapters.tokens import Identity, TokenVerifier, mint_for, new_key_pair
from services.core import refusals
from services.core.errors import Problem

pytestmark = pytest.mark.asyncio

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


def _answer(answer: Any, _: str) -> Any:
    return answer


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


async def test_all_four_kinds_are_served_with_identity() -> None:
    async with running() as run:
        run.echo.answer = lambda text: f"{current_call().identity.organization_id}:{text}"
        assert await run.unary("hi") == "acme:hi"
        watch = run.watch("w")
        assert (await watch.read()).value == "w"
        watch.cancel()
        codec: Any = {"request_serializer": Text.SerializeToString, "response_deserializer": Text.FromString}
        collect: Any = run.channel.stream_unary(f"/{SERVICE}/Collect", **codec)
        assert (await collect(iter([Text(value="a"), Text(value="b")]), metadata=run.token())).value == "a,b"
        both: Any = run.channel.stream_stream(f"/{SERVICE}/Both", **codec)(
            iter([Text(value="a")]), metadata=run.token()
        )
        assert [message.value async for message in both] == ["a!"]


async def test_every_method_needs_a_token() -> None:
    async with running() as run:
        for metadata, reason in [
            ((), "TOKEN_MISSING"),
            ((("authorization", "Basic x"),), "TOKEN_MISSING"),
            ((("authorization", "Bearer x"),), "TOKEN_INVALID"),
        ]:
            code, info, _ = await refused(run.unary(metadata=metadata))
            assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
            code, info, _ = await refused(run.watch(metadata=metadata).read())
            assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
        for method in ("Collect", "Both"):
            opened: Any = run.channel.stream_stream(f"/{SERVICE}/{method}")
            call = opened(iter([b""]))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        run.clock.advance(3_600_000_000)
        late = run.token(lifetime_s=-3600)
        assert (await refused(run.unary(metadata=late)))[1].reason == "TOKEN_EXPIRED"


async def test_roles_guard_methods() -> None:
    async with running(roles={f"/{SERVICE}/Unary": "operator"}) as run:
        code, info, _ = await refused(run.unary())
        assert (code, info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
        assert await run.unary("x", metadata=run.token(roles=frozenset({"operator"}))) == "x"


async def test_refusals_become_rich_statuses() -> None:
    cases = [
        (
            refusals.invalid([Problem("a.b", "BAD", "is bad"), Problem("c", "WORSE", "is worse")]),
            "INVALID_ARGUMENT",
            "BadRequest",
        ),
        (refusals.not_found("execution", "e1"), "NOT_FOUND", "ResourceInfo"),
        (
            refusals.already_exists("workflow", "w", "WORKFLOW_EXISTS", "there"),
            "ALREADY_EXISTS",
            "ResourceInfo",
        ),
        (
            refusals.wrong_state("ENDED", "execution e1", "has ended"),
            "FAILED_PRECONDITION",
            "PreconditionFailure",
        ),
        (refusals.exhausted("open executions", "too many", 1_500_000), "RESOURCE_EXHAUSTED", "QuotaFailure"),
        (refusals.unavailable("DATABASE", "not now"), "UNAVAILABLE", "RetryInfo"),
    ]
    async with running() as run:
        for refusal, code, detail in cases:
            run.echo.answer = partial(_answer, refusal)
            got, info, details = await refused(run.unary())
            assert (got.name, info.reason) == (code, refusal.reason)
            assert detail in details
            if detail == "BadRequest":
                assert [v.field for v in details[detail].field_violations] == ["a.b", "c"]
            if detail == "QuotaFailure":
                assert details["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 1.5


async def test_thousands_of_problems_still_reach_the_client() -> None:
    async with running() as run:
        problems = [Problem(f"nodes[{n}].when", "EXPRESSION", "unknown name ü" * 20) for n in range(5000)]
        run.echo.answer = lambda _: refusals.invalid(problems)
        code, _, details = await refused(run.unary())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert len(details["BadRequest"].field_violations) > 5


async def test_unexpected_errors_leak_nothing() -> None:
    async with running() as run:
        run.echo.answer = lambda _: RuntimeError("SELECT password FROM users")
        code, info, details = await refused(run.unary(metadata=(*run.token(), ("x-request-id", "r-1"))))
        assert code is grpc.StatusCode.INTERNAL
        assert details == {}
        assert (info.reason, info.metadata["faultId"]) == ("INTERNAL", "r-1")


async def test_undecodable_bytes_are_the_clients_mistake() -> None:
    async with running() as run:
        for raw in (b"\xff\xff\xff", b"\x0a\x02\xff\xfe"):
            code, info, _ = await refused(run.unary(raw=raw))
            assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_calls_have_a_deadline_of_their_own_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.adapters.grpc.handlers.UNARY_SECONDS", 0.05)
    async with running() as run:
        never = asyncio.Event()

        async def wait() -> str:
            await never.wait()
            return ""

        run.echo.answer = lambda _: wait()
        code, info, _ = await refused(run.unary())
        assert (code, info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await run.unary(timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_cancelled_stream_closes_its_generator() -> None:
    async with running() as run:
        watch = run.watch("gone")
        await watch.read()
        await run.echo.streaming.wait()
        watch.cancel()
        async with asyncio.timeout(5):
            await run.echo.ended.wait()
        assert run.echo.closed == ["gone"]
        assert len(run.server.streams) == 0


async def test_streams_end_with_their_token_their_age_and_their_reader() -> None:
    async with running() as run:
        watch = run.watch("expires", metadata=run.token(lifetime_s=10))
        await watch.read()
        run.clock.advance(71_000_000)
        assert await run.server.streams.run_once() == {"ended": 1}
        code, info, _ = await refused(watch.read())
        assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")

        old = run.watch("old", metadata=run.token(lifetime_s=100_000))
        await old.read()
        run.clock.advance(int(STREAM_AGE_SECONDS_MAX + 1) * 1_000_000)
        await run.server.streams.run_once()
        code, info, details = await refused(old.read())
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_AGE")
        assert "RetryInfo" in details


async def test_a_reader_that_does_not_read_is_let_go() -> None:
    async with running() as run:
        flood = run.watch("flood")
        await flood.read()
        while await progressed(run.echo):
            pass
        run.clock.advance(int(WRITE_SECONDS_MAX + 1) * 1_000_000)
        assert await run.server.streams.run_once() == {"ended": 1}
        await asyncio.wait_for(run.echo.ended.wait(), 5)
        flood.cancel()


async def test_drain_ends_streams_with_advice_and_lets_calls_finish() -> None:
    async with running() as run:
        finish = asyncio.Event()

        async def slow() -> str:
            await finish.wait()
            return "done"

        run.echo.answer = lambda _: slow()
        health: Any = health_pb2_grpc.HealthStub(run.channel)
        watch, unary = run.watch("w"), asyncio.create_task(run.unary())
        await watch.read()
        await run.echo.serving.wait()
        assert (await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status == 1
        draining = asyncio.create_task(run.server.drain(5))
        code, info, details = await refused(watch.read())
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert "RetryInfo" in details
        finish.set()
        assert await unary == "done"
        await draining
        assert run.echo.closed == ["w"]


async def test_health_knows_each_service() -> None:
    async with running() as run:
        health: Any = health_pb2_grpc.HealthStub(run.channel)
        messages: Any = health_pb2
        listed = await health.List(messages.HealthListRequest())
        assert {"", SERVICE, "grpc.health.v1.Health"} <= set(listed.statuses)
        code, _, _ = await refused(health.Check(health_pb2.HealthCheckRequest(service="nope")))
        assert code is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == 1
        run.server.health.set_serving(False)
        assert (await watch.read()).status == 2
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_and_describes(version: str) -> None:
    request = reflection_pb2.ServerReflectionRequest
    async with running() as run:
        call = run.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=request.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = [
            request(list_services=""),
            request(file_containing_symbol=f"grpc.reflection.{version}.ServerReflection"),
            request(file_containing_symbol="google.rpc.ErrorInfo"),
            request(file_by_filename="nowhere.proto"),
        ]
        listed, own, error_info, missing = [answer async for answer in call(iter(asked))]
        assert SERVICE in [service.name for service in listed.list_services_response.service]
        file = descriptor_pb2.FileDescriptorProto.FromString(
            own.file_descriptor_response.file_descriptor_proto[0]
        )
        assert file.package == f"grpc.reflection.{version}"
        assert len(error_info.file_descriptor_response.file_descriptor_proto) == 2
        assert missing.error_response.error_code == 5


async def test_metrics_use_the_ecosystems_names() -> None:
    async with running() as run:
        await run.unary()
        run.echo.answer = lambda _: refusals.not_found("execution", "e")
        await refused(run.unary())
        text = generate_latest(run.registry).decode()
        labels = f'grpc_method="Unary",grpc_service="{SERVICE}",grpc_type="unary"'
        assert f"grpc_server_started_total{{{labels}}} 2.0" in text
        assert f'grpc_server_handled_total{{grpc_code="NOT_FOUND",{labels}}} 1.0' in text
        assert f"grpc_server_handling_seconds_count{{{labels}}} 2.0" in text


async def test_a_taken_port_is_an_error() -> None:
    async with running() as run:
        clock = FixedClock()
        verifier = TokenVerifier(KEYS.public_key, "i", "a", clock)
        address = Address("127.0.0.1", run.server.port)
        second = GrpcServer(address, verifier, clock, CollectorRegistry(), descriptors=b"")
        with pytest.raises(OSError, match="cannot listen"):
            await second.start()


async def test_channelz_is_for_admins_behind_a_switch() -> None:
    pytest.importorskip("grpc_channelz")
    from grpc_channelz.v1 import channelz_pb2

    path = "/grpc.channelz.v1.Channelz/GetServers"
    async with running() as run:
        closed: Any = run.channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await closed(b"", metadata=run.token(roles=frozenset({"admin"})))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    async with running(channelz=True) as run:
        opened: Any = run.channel.unary_unary(
            path, response_deserializer=channelz_pb2.GetServersResponse.FromString
        )
        code, info, _ = await refused(opened(b"", metadata=run.token()))
        assert (code, info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
        assert (await opened(b"", metadata=run.token(roles=frozenset({"admin"})))).server
