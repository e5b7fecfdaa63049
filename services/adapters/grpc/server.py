"""A gRPC server of ours: the services, health and reflection on one port, and a drain that loses nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import CollectorRegistry

from services.adapters.clock import Clock
from services.adapters.config import Address, ServerSettings
from services.adapters.grpc.admission import Admission
from services.adapters.grpc.channelz import CHANNELZ_ROLES, add_channelz
from services.adapters.grpc.handlers import Wrapper
from services.adapters.grpc.health import HealthServicer
from services.adapters.grpc.metrics import ServerMetrics
from services.adapters.grpc.reflection import ReflectionServicer, installed_descriptors
from services.adapters.grpc.streams import WATCH_INTERVAL_SECONDS, OpenStreams
from services.adapters.lifecycle import Duty
from services.adapters.tokens import TokenVerifier
from services.core.units import KIB, MIB

MESSAGE_BYTES_MAX = 4 * MIB
METADATA_BYTES_MAX = 16 * KIB
DRAIN_SECONDS = 20.0
STREAMS_END_SECONDS = 5.0

_OPTIONS: Sequence[tuple[str, Any]] = (
    # Without this a second server binds the same port in silence.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", 10_000),
    # Clients may ping every 10 s; connections end after five minutes so that clients spread again, and their
    # streams may go on for the hour that a stream lives at most.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 3_660_000),
)


class GrpcServer:
    """Takes services through the generated `add_…Servicer_to_server` functions, as a grpc.aio server does.

    `roles` names the role that a method (`/package.Service/Method`) needs beside a valid token.
    """

    def __init__(
        self,
        address: Address,
        verifier: TokenVerifier,
        clock: Clock,
        registry: CollectorRegistry,
        *,
        roles: Mapping[str, str] | None = None,
        descriptors: bytes | None = None,
        channelz: bool = False,
    ) -> None:
        self.address = address
        self.port = address.port
        self.streams = OpenStreams(clock)
        self.health = HealthServicer()
        metrics = ServerMetrics(registry)
        self._admission = Admission(
            verifier, clock, metrics, self.streams, {**(CHANNELZ_ROLES if channelz else {}), **(roles or {})}
        )
        self._wrapper = Wrapper(self._admission, metrics)
        self._reflection = ReflectionServicer(installed_descriptors() if descriptors is None else descriptors)
        options = [*_OPTIONS, ("grpc.enable_channelz", int(channelz))]
        self._server = grpc.aio.server(options=options)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, cast("Any", self))
        self._reflection.register(self)
        if channelz:
            add_channelz(self)

    @classmethod
    def of(cls, settings: ServerSettings, clock: Clock, registry: CollectorRegistry) -> GrpcServer:
        """Server of a process, as its settings say."""
        token = settings.token
        verifier = TokenVerifier(token.public_key, token.issuer, token.audience, clock)
        return cls(settings.grpc, verifier, clock, registry, channelz=settings.channelz)

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Ignored: the generated functions hand the same methods to `add_registered_method_handlers`."""

    def add_registered_method_handlers(self, service: str, methods: Mapping[str, Any]) -> None:
        """Serve the methods, each wrapped."""
        wrapped = {name: self._wrapper.wrap(service, name, handler) for name, handler in methods.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        self._reflection.services.append(service)
        self.health.add(service)

    @property
    def requests_in_flight(self) -> int:
        """Unary calls that are being served now."""
        return self._admission.unary_in_flight

    async def start(self) -> int:
        """Listen and serve; returns the port. Raises OSError when the address is taken."""
        try:
            self.port = self._server.add_insecure_port(str(self.address))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.address}") from error
        await self._server.start()
        self.health.set_serving(True)
        return self.port

    def stream_duty(self) -> Duty:
        """Duty that ends streams whose time is over."""
        return Duty("streams", self.streams.run_once, WATCH_INTERVAL_SECONDS)

    async def drain(self, grace_s: float = DRAIN_SECONDS) -> None:
        """NOT_SERVING; streams end with UNAVAILABLE and when to come back; unary calls get `grace_s`.

        Returns when the tasks of all streams have ended, which `stop` alone does not wait for.
        """
        self.health.leave()
        stopping = asyncio.ensure_future(self._server.stop(grace_s))
        tasks = self.streams.drain()
        if tasks:
            await asyncio.wait(tasks, timeout=STREAMS_END_SECONDS)
        await stopping
