"""What surrounds every RPC, of all four kinds: identity, deadline, errors, metrics, log, and ending streams.

A method is wrapped once, when its service is added; nothing is looked up per call. Requests come as raw
bytes, so that bytes which do not decode are refused as INVALID_ARGUMENT.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from services.adapters.grpc.admission import Admission
from services.adapters.grpc.calls import current_call
from services.adapters.grpc.errors import Failure, failure_of, internal_failure
from services.adapters.grpc.metrics import MethodMetrics, ServerMetrics
from services.adapters.log import get_logger, writes_debug
from services.core.refusals import (
    Kind,
    Refusal,
    invalid_field,
    not_supported,
)

UNARY_SECONDS = 30.0
log = get_logger(__name__)
Context = Any
Behaviour = Callable[..., Any]


class Wrapper:
    """Wraps the methods of one server."""

    def __init__(self, admission: Admission, metrics: ServerMetrics) -> None:
        self._admission = admission
        self._metrics = metrics

    def wrap(self, service: str, method: str, handler: Any) -> Any:
        """Handler that serves the method with everything around it."""
        path = f"/{service}/{method}"
        kind = _kind(handler)
        one = _Method(self._admission, path, handler, self._metrics.of(kind, service, method))
        kinds: dict[str, tuple[Callable[..., Any], Behaviour]] = {
            "unary": (grpc.unary_unary_rpc_method_handler, one.unary_unary),
            "client_stream": (grpc.stream_unary_rpc_method_handler, one.stream_unary),
            "server_stream": (grpc.unary_stream_rpc_method_handler, one.unary_stream),
            "bidi_stream": (grpc.stream_stream_rpc_method_handler, one.stream_stream),
        }
        make, serve = kinds[kind]
        return make(serve, request_deserializer=None, response_serializer=handler.response_serializer)


class _Method:
    """One wrapped method."""

    def __init__(self, admission: Admission, path: str, handler: Any, metrics: MethodMetrics) -> None:
        self._admission = admission
        self._clock = admission.clock
        self._path = path
        self._role = admission.roles.get(path, "")
        self._metrics = metrics
        self._parse: Callable[[bytes], Any] = handler.request_deserializer or bytes
        self._behaviour: Behaviour = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        self._generates = inspect.isasyncgenfunction(self._behaviour)

    async def unary_unary(self, body: bytes, context: Context) -> Any:
        """Serve a unary call."""
        return await self._serve_unary(context, lambda: self._behaviour(self._parsed(body), context))

    async def stream_unary(self, bodies: AsyncIterator[bytes], context: Context) -> Any:
        """Serve a stream of requests with one answer."""
        return await self._serve_unary(
            context, lambda: self._behaviour(self._parsed_each(bodies), context), bounded=False
        )

    async def unary_stream(self, body: bytes, context: Context) -> None:
        """Serve one request with a stream of answers."""
        await self._serve_stream(context, lambda: self._behaviour(self._parsed(body), context))

    async def stream_stream(self, bodies: AsyncIterator[bytes], context: Context) -> None:
        """Serve a stream of requests with a stream of answers."""
        await self._serve_stream(context, lambda: self._behaviour(self._parsed_each(bodies), context))

    async def _serve_unary(
        self, context: Context, behave: Callable[[], Awaitable[Any]], *, bounded: bool = True
    ) -> Any:
        began = self._clock.monotonic()
        self._metrics.started.inc()
        entered = False
        try:
            self._admission.admit(self._path, self._role, context, UNARY_SECONDS if bounded else float("inf"))
            self._admission.enter_unary()
            entered = True
            if bounded and context.time_remaining() is None:
                answer = await _within(UNARY_SECONDS, behave)
            else:
                answer = await behave()
        except asyncio.CancelledError:
            self._ended(_left(context), began)
            raise
        except Exception as error:
            failure = self._failure(error)
        else:
            self._ended(grpc.StatusCode.OK, began)
            return answer
        finally:
            if entered:
                self._admission.leave_unary()
        self._ended(failure.code, began)
        return await context.abort(failure.code, failure.message, failure.trailing_metadata)

    async def _serve_stream(self, context: Context, behave: Callable[[], Any]) -> None:
        began = self._clock.monotonic()
        self._metrics.started.inc()
        entered = False
        ending: Refusal | None = None
        failure: Failure | None = None
        try:
            call = self._admission.admit(self._path, self._role, context, float("inf"))
            self._admission.enter_stream(call.identity)
            entered = True
            if self._generates:
                await self._write_all(behave(), context)
            else:
                await behave()
        except asyncio.CancelledError:
            ending = self._admission.leave_stream() if entered else None
            entered = False
            task = asyncio.current_task()
            if ending is None or task is None or context.cancelled():
                self._ended(_left(context), began)
                raise
            task.uncancel()
            failure = failure_of(ending)
        except Exception as error:
            failure = self._failure(error)
        finally:
            if entered:
                self._admission.leave_stream()
        if failure is None:
            self._ended(grpc.StatusCode.OK, began)
            return
        self._ended(failure.code, began)
        await context.abort(failure.code, failure.message, failure.trailing_metadata)

    async def _write_all(self, messages: Any, context: Context) -> None:
        writing, sent = self._admission.writing, self._metrics.sent
        async with aclosing(messages):
            async for message in messages:
                writing(True)
                await context.write(message)
                writing(False)
                sent.inc()

    def _parsed(self, body: bytes) -> Any:
        try:
            return self._parse(body)
        except (DecodeError, UnicodeDecodeError, ValueError):
            raise invalid_field(
                "", "UNDECODABLE", "the request's bytes are not the message of this method"
            ) from None

    async def _parsed_each(self, bodies: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for body in bodies:
            yield self._parsed(body)

    def _failure(self, error: Exception) -> Failure:
        if isinstance(error, Refusal):
            return failure_of(error)
        if isinstance(error, TimeoutError):
            text = f"not done within the {UNARY_SECONDS:g} s that calls without a deadline have"
            return failure_of(Refusal(Kind.DEADLINE_EXCEEDED, "DEADLINE", text))
        if isinstance(error, NotImplementedError):
            return failure_of(not_supported(self._path))
        request_id = current_call().request_id
        log.error("unexpected error", method=self._path, exc_info=error)
        return internal_failure(request_id)

    def _ended(self, code: grpc.StatusCode, began: float) -> None:
        seconds = self._clock.monotonic() - began
        self._metrics.handled(code)
        self._metrics.seconds.observe(seconds)
        if code is grpc.StatusCode.OK:
            if writes_debug():
                log.debug("rpc", method=self._path, code="OK", seconds=seconds)
        else:
            log.info("rpc", method=self._path, code=code.name, seconds=round(seconds, 6))


async def _within(seconds: float, behave: Callable[[], Awaitable[Any]]) -> Any:
    """What `behave` returns; TimeoutError after `seconds`. A third of the cost of `asyncio.timeout`."""
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        return await behave()
    except asyncio.CancelledError:
        if expired and task.uncancel() == 0:
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


def _left(context: Context) -> grpc.StatusCode:
    """Why a client no longer waits: its deadline passed or it cancelled."""
    remaining = context.time_remaining()
    passed = remaining is not None and remaining <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED


def _kind(handler: Any) -> str:
    if handler.request_streaming:
        return "bidi_stream" if handler.response_streaming else "client_stream"
    return "server_stream" if handler.response_streaming else "unary"
