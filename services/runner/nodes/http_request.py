"""`http.request`: one call of an HTTP service, with redirects, as a node.

Parameters `{method, url, headers, query, json or body}`, output `{status, headers, body}`. No answer is NETWORK;
408, 425, 429 and 5xx are NODE_EXECUTION and retried as the policy says, `Retry-After` included; other 4xx are
not retried. Every attempt carries the node's idempotency key.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from yarl import URL

from services.adapters.clock import Clock
from services.adapters.metrics import version
from services.core.errors import NETWORK, NODE_EXECUTION, RESOURCE, VALIDATION
from services.core.tasks import VALUE_BYTES_MAX
from services.core.units import KIB
from services.runner.nodes.egress import Egress, EgressRefused, GuardedResolver
from services.runner.nodes.http_messages import (
    Call,
    parse_call,
    plain_body,
    plain_headers,
    redirected,
    retry_after_s,
    shown,
)
from weconnect import Context, NodeFailure, NonRetryable

REDIRECTS_MAX = 5
CONNECT_SECONDS = 30.0
# Silence of a server that is taken for its death; a node's own timeout is usually shorter.
SILENCE_SECONDS = 300.0
DNS_CACHE_SECONDS = 10
READ_BYTES = 64 * KIB
ERROR_BODY_CHARACTERS_MAX = 4 * KIB

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIED = frozenset({408, 425, 429})


class HttpRequest:
    """Handler of `http.request`; one connection pool for all nodes, bounded by the runner's slots."""

    def __init__(self, egress: Egress, clock: Clock) -> None:
        self._egress = egress
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, input: Any, ctx: Context) -> dict[str, Any]:
        """Make the call. Raises NodeFailure for everything that is not a status below 400."""
        try:
            call = parse_call(input)
        except ValueError as error:
            raise NonRetryable(VALIDATION, f"http.request: {error}") from None
        headers = call.headers
        headers.setdefault("Idempotency-Key", ctx.idempotency_key)
        headers.setdefault("WeConnect-Attempt", str(ctx.attempt))
        headers.setdefault("WeConnect-Execution-Id", ctx.execution_id)
        try:
            return await self._follow(call)
        except (EgressRefused, aiohttp.InvalidURL, ValueError) as error:
            raise NonRetryable(VALIDATION, f"http.request: {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = str(error) or type(error).__name__
            raise NodeFailure(NETWORK, f"{call.method} {shown(call.url)}: no answer: {text}") from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _follow(self, call: Call) -> dict[str, Any]:
        session = self._session or self._open()
        for _ in range(REDIRECTS_MAX + 1):
            self._check(call.url)
            async with session.request(
                call.method, call.url, headers=call.headers, data=call.data, allow_redirects=False
            ) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    return await self._answer(call, response)
                call = redirected(call, response.status, location)
        raise NonRetryable(
            NODE_EXECUTION, f"{call.method} {shown(call.url)}: more than {REDIRECTS_MAX} redirects"
        )

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._egress), limit=0, ttl_dns_cache=DNS_CACHE_SECONDS
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"weconnect-runner/{version()}"},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
            ),
            trust_env=False,
        )
        return self._session

    def _check(self, url: URL) -> None:
        if url.scheme not in ("http", "https") or not url.host:
            raise NonRetryable(VALIDATION, "http.request: the URL must be http:// or https:// with a host")
        self._egress.check_literal(url.host)

    async def _answer(self, call: Call, response: aiohttp.ClientResponse) -> dict[str, Any]:
        failing = response.status >= 400
        data = await self._read(call, response, cut=failing)
        body = plain_body(data, response.content_type, response.charset)
        if not failing:
            return {"status": response.status, "headers": plain_headers(response.headers), "body": body}
        retried = response.status in _RETRIED or response.status >= 500
        if isinstance(body, str):
            body = body[:ERROR_BODY_CHARACTERS_MAX]
        raise NodeFailure(
            NODE_EXECUTION,
            f"{call.method} {shown(call.url)} answered {response.status} {response.reason or ''}".rstrip(),
            retryable=retried,
            retry_after=retry_after_s(response.headers, self._clock.now()) if retried else None,
            details={"status": response.status, "body": body},
        )

    async def _read(self, call: Call, response: aiohttp.ClientResponse, *, cut: bool) -> bytes:
        """Body within the bound of a value; over it the node fails, or, of an error's body, the rest is left out."""
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_chunked(READ_BYTES):
            size += len(part)
            if size > VALUE_BYTES_MAX:
                response.close()
                if cut:
                    break
                raise NonRetryable(
                    RESOURCE, f"{call.method} {shown(call.url)}: the body is over {VALUE_BYTES_MAX} bytes"
                )
            parts.append(part)
        return b"".join(parts)
