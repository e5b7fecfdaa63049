"""The gRPC chassis on a real server: identity, errors, deadlines, streams, metrics, drain."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, generate_latest

from services.adapters.clock import FixedClock
from services.adapters.config import Address
from services.adapters.grpc.calls import current_call
from services.adapters.grpc.server import GrpcServer
from services.adapters.grpc.streams import STREAM_AGE_SECONDS_MAX, WRITE_SECONDS_MAX
from services.adapters.tokens import TokenVerifier
from services.core import refusals
from services.core.errors import Problem
from tests.adapters.echo_server import KEYS, SERVICE, Text, progressed, refused, running

pytestmark = pytest.mark.asyncio


def _answer(answer: Any, _: str) -> Any:
    return answer


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
            refusals.Refusal(
                refusals.Kind.ALREADY_EXISTS, "WORKFLOW_EXISTS", "there", resource=("workflow", "w")
            ),
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
