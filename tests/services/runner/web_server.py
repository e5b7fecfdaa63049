"""A web server on loopback with answers of every kind, for `http.request` to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web


async def echo(request: web.Request) -> web.Response:
    """What was asked, and two cookies."""
    body = await request.text()
    return web.json_response(
        {
            "method": request.method,
            "query": list(request.query.items()),
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": body,
        },
        headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
    )


async def status(request: web.Request) -> web.Response:
    """The status `code` of the query, the rest of the query as headers, and a long body."""
    headers = {name: value for name, value in request.query.items() if name != "code"}
    return web.Response(status=int(request.query["code"]), text="no " * 5000, headers=headers)


async def redirect(request: web.Request) -> web.Response:
    """A redirect with the status `code` to the address `to`."""
    return web.Response(
        status=int(request.query.get("code", 302)), headers={"Location": request.query.get("to", "/echo")}
    )


async def big(request: web.Request) -> web.StreamResponse:
    """A body of 4 MiB."""
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        for _ in range(64):
            await response.write(b"x" * 65536)
    except ConnectionError:
        pass
    return response


async def raw(request: web.Request) -> web.Response:
    """A body of some kind."""
    kinds = {
        "broken": web.Response(body=b"{", content_type="application/json"),
        "problem": web.Response(body=b'{"a":1}', content_type="application/problem+json"),
        "binary": web.Response(body=b"\xff\xfe\x00", content_type="application/octet-stream"),
        "latin": web.Response(body=b"\xe9", content_type="text/plain", charset="latin-1"),
        "empty": web.Response(status=204),
        "nul": web.Response(text="a\0b"),
    }
    return kinds[request.match_info["kind"]]


async def cut(request: web.Request) -> web.Response:
    """No answer: the connection is cut."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def loop(request: web.Request) -> web.Response:
    """A redirect to itself."""
    raise web.HTTPFound("/loop")


@dataclass(frozen=True)
class Server:
    """Where the server listens: `base` is its URL without a path."""

    base: str
    port: int


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Serve on a free port of loopback."""
    app = web.Application()
    app.router.add_route("*", "/echo", echo)
    for path, handler in (("/status", status), ("/redirect", redirect), ("/big", big), ("/raw/{kind}", raw)):
        app.router.add_route("*", path, handler)
    app.router.add_get("/cut", cut)
    app.router.add_get("/loop", loop)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield Server(f"http://127.0.0.1:{port}", port)
    await runner.cleanup()
