"""The standard health service (grpc.health.v1): Check, List and Watch for "" and each service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.core.refusals import not_found

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Says whether services are served; after `leave` none is, for good."""

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {"": NOT_SERVING}
        self._changed = asyncio.Event()
        self._left = False

    def add(self, service: str) -> None:
        """Make a service known; it has the overall status."""
        self._statuses[service] = self._statuses[""]

    def set_serving(self, serving: bool) -> None:
        """Set the status of everything."""
        if self._left:
            return
        for service in self._statuses:
            self._statuses[service] = SERVING if serving else NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    def leave(self) -> None:
        """NOT_SERVING from now on."""
        self.set_serving(False)
        self._left = True

    async def Check(self, request: Any, context: Any) -> Any:
        """Status of one service; NOT_FOUND for an unknown one."""
        status = self._statuses.get(request.service)
        if status is None:
            raise not_found("service", request.service)
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: Any) -> Any:
        """Status of every service."""
        statuses = {name: health_pb2.HealthCheckResponse(status=s) for name, s in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined]

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Status of one service now and whenever it changes."""
        last = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, SERVICE_UNKNOWN)
            if status != last:
                last = status
                yield health_pb2.HealthCheckResponse(status=status)
            await changed.wait()
