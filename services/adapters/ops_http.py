"""The operator's port: /metrics for Prometheus, /healthz (the loop turns), /readyz (it may be sent work)."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from services.adapters.config import Address

SHUTDOWN_SECONDS = 2.0


class Readiness:
    """What must hold before this process is sent work; each part says for itself."""

    def __init__(self, *parts: str) -> None:
        self._parts: dict[str, str] = dict.fromkeys(parts, "starting")
        self._draining = False

    def ready(self, part: str) -> None:
        """The part works."""
        self._parts[part] = ""

    def unready(self, part: str, why: str) -> None:
        """The part does not work; `why` is for operators."""
        self._parts[part] = why or "not ready"

    def drain(self) -> None:
        """From now on this process is not ready whatever its parts say."""
        self._draining = True

    @property
    def is_ready(self) -> bool:
        """True when every part works and no drain began."""
        return not self._draining and not any(self._parts.values())

    def report(self) -> dict[str, str]:
        """What each part says."""
        parts = {part: why or "ready" for part, why in self._parts.items()}
        return {**parts, "drain": "draining"} if self._draining else parts


class OpsServer:
    """Serves the operator's port of one process."""

    def __init__(self, address: Address, registry: CollectorRegistry, readiness: Readiness) -> None:
        self._address = address
        self._readiness = readiness
        self.app = web.Application()
        self.app.router.add_get("/metrics", make_aiohttp_handler(registry))
        self.app.router.add_get("/healthz", self._healthz)
        self.app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        self.port = address.port

    async def start(self) -> None:
        """Listen; `port` is the real one afterwards. Raises OSError when the address is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._address.host, self._address.port)
        await site.start()
        addresses = self._runner.addresses
        if addresses:
            self.port = int(addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        status = 200 if self._readiness.is_ready else 503
        return web.json_response(self._readiness.report(), status=status)
