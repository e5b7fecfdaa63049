"""The ecosystem's metrics of a gRPC server (`grpc_server_…`), one set of children kept per method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge

from services.adapters.metrics import counter, gauge, histogram

_METHOD_LABELS = ("grpc_type", "grpc_service", "grpc_method")


@dataclass(slots=True)
class MethodMetrics:
    """Children of one method."""

    kind: str
    service: str
    method: str
    started: Any
    seconds: Any
    sent: Any
    handled_family: Counter
    _handled: dict[grpc.StatusCode, Any] = field(default_factory=dict)

    def handled(self, code: grpc.StatusCode) -> None:
        """Count an ended RPC."""
        child = self._handled.get(code)
        if child is None:
            labels = (self.kind, self.service, self.method, code.name)
            child = self._handled[code] = self.handled_family.labels(*labels)
        child.inc()


class ServerMetrics:
    """Metrics of one server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = counter(
            registry, "grpc_server_started_total", "RPCs that began on the server.", _METHOD_LABELS
        )
        self._handled = counter(
            registry,
            "grpc_server_handled_total",
            "RPCs that ended on the server, whatever their code.",
            (*_METHOD_LABELS, "grpc_code"),
        )
        self._seconds = histogram(
            registry, "grpc_server_handling_seconds", "Time from begin to end of RPCs.", _METHOD_LABELS
        )
        self._sent = counter(
            registry, "grpc_server_msg_sent_total", "Messages sent on response streams.", _METHOD_LABELS
        )
        self.in_flight: Gauge = gauge(
            registry, "weconnect_grpc_in_flight_items", "RPCs that are being served.", ["grpc_type"]
        )

    def of(self, kind: str, service: str, method: str) -> MethodMetrics:
        """Children of one method; `kind` is unary, client_stream, server_stream or bidi_stream."""
        labels = (kind, service, method)
        return MethodMetrics(
            kind,
            service,
            method,
            self._started.labels(*labels),
            self._seconds.labels(*labels),
            self._sent.labels(*labels),
            self._handled,
        )
