"""`http.request` against a real server on loopback: answers, failures, redirects, bounds."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from services.adapters.clock import SystemClock
from services.core.tasks import VALUE_BYTES_MAX
from services.runner.nodes.egress import Egress
from services.runner.nodes.http_request import HttpRequest
from tests.services.runner.rig import Rig
from tests.services.runner.web_server import Server, serving
from weconnect import Context, NodeFailure

LOOPBACK = Egress([ip_network("127.0.0.0/8"), ip_network("::1")])


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def http() -> AsyncIterator[HttpRequest]:
    http = HttpRequest(LOOPBACK, SystemClock())
    yield http
    await http.close()


def context() -> Context:
    return Context(node_id="n", attempt=2, idempotency_key="key-9", execution_id="e")


async def failure_of(http: HttpRequest, **parameters: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as caught:
        await http(parameters, context())
    return caught.value


async def test_a_call_and_its_answer(http: HttpRequest, server: Server) -> None:
    answer = await http(
        {
            "method": "post",
            "url": f"{server.base}/echo?a=1",
            "query": {"b": [2, True], "c": "ä"},
            "headers": {"X-One": "1"},
            "json": {"total": 1.5},
        },
        context(),
    )
    assert answer["status"] == 200 and answer["headers"]["set-cookie"] == "a=1, b=2"
    seen = answer["body"]
    assert seen["method"] == "POST" and seen["query"] == [["a", "1"], ["b", "2"], ["b", "true"], ["c", "ä"]]
    assert (
        json.loads(seen["body"]) == {"total": 1.5} and seen["headers"]["content-type"] == "application/json"
    )
    assert seen["headers"]["idempotency-key"] == "key-9" and seen["headers"]["weconnect-attempt"] == "2"
    assert seen["headers"]["weconnect-execution-id"] == "e" and seen["headers"]["x-one"] == "1"


async def test_the_authors_own_key_wins(http: HttpRequest, server: Server) -> None:
    answer = await http({"url": f"{server.base}/echo", "headers": {"idempotency-key": "mine"}}, context())
    assert answer["body"]["headers"]["idempotency-key"] == "mine"


async def test_text_goes_as_it_is(http: HttpRequest, server: Server) -> None:
    answer = await http({"method": "PUT", "url": f"{server.base}/echo", "body": "hällo"}, context())
    assert answer["body"]["body"] == "hällo"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("broken", "{"),
        ("problem", {"a": 1}),
        ("binary", {"base64": "//4A"}),
        ("latin", "é"),
        ("empty", None),
    ],
)
async def test_bodies(http: HttpRequest, server: Server, kind: str, body: Any) -> None:
    assert (await http({"url": f"{server.base}/raw/{kind}"}, context()))["body"] == body


@pytest.mark.parametrize("code", [408, 425, 429, 500, 503])
async def test_statuses_that_are_retried(http: HttpRequest, server: Server, code: int) -> None:
    failure = await failure_of(http, url=f"{server.base}/status?code={code}&Retry-After=7")
    assert (failure.type, failure.retryable, failure.retry_after_s) == ("NODE_EXECUTION", True, 7.0)
    assert failure.details["status"] == code and len(failure.details["body"]) <= 4096
    assert str(code) in failure.message and "?" not in failure.message


@pytest.mark.parametrize("code", [400, 401, 404, 409, 422])
async def test_statuses_that_are_not(http: HttpRequest, server: Server, code: int) -> None:
    failure = await failure_of(http, url=f"{server.base}/status?code={code}&Retry-After=7")
    assert (failure.type, failure.retryable, failure.retry_after_s) == ("NODE_EXECUTION", False, 0.0)


async def test_retry_after_as_a_date(http: HttpRequest, server: Server) -> None:
    url = f"{server.base}/status?code=503&Date=Wed, 21 Oct 2015 07:28:00 GMT&Retry-After=Wed, 21 Oct 2015 07:29:30 GMT"
    assert (await failure_of(http, url=url)).retry_after_s == 90.0
    assert (
        await failure_of(http, url=f"{server.base}/status?code=503&Retry-After=soon")
    ).retry_after_s == 0.0


async def test_no_answer_is_network(http: HttpRequest, server: Server) -> None:
    failure = await failure_of(http, url=f"{server.base}/cut")
    assert (failure.type, failure.retryable) == ("NETWORK", True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        failure = await failure_of(http, url=f"http://127.0.0.1:{free.getsockname()[1]}/")
    assert failure.type == "NETWORK"
    assert (await failure_of(http, url="http://does-not-exist.invalid/")).type == "NETWORK"


async def test_a_body_over_the_bound_is_a_resource_failure(http: HttpRequest, server: Server) -> None:
    failure = await failure_of(http, url=f"{server.base}/big")
    assert (failure.type, failure.retryable) == ("RESOURCE", False) and str(
        VALUE_BYTES_MAX
    ) in failure.message


async def test_redirects(http: HttpRequest, server: Server) -> None:
    answer = await http(
        {
            "method": "POST",
            "url": f"{server.base}/redirect?code=303",
            "json": 1,
            "headers": {"Authorization": "x"},
        },
        context(),
    )
    assert answer["body"]["method"] == "GET" and answer["body"]["body"] == ""
    assert answer["body"]["headers"]["authorization"] == "x"
    answer = await http({"method": "POST", "url": f"{server.base}/redirect?code=307", "json": 1}, context())
    assert (answer["body"]["method"], answer["body"]["body"]) == ("POST", "1")
    failure = await failure_of(http, url=f"{server.base}/loop")
    assert "redirects" in failure.message and not failure.retryable


async def test_another_origin_does_not_see_credentials(http: HttpRequest, server: Server) -> None:
    async with serving() as other:
        answer = await http(
            {
                "url": f"{server.base}/redirect?to={other.base}/echo",
                "headers": {"Authorization": "secret", "Cookie": "a=1", "X-Mine": "1"},
            },
            context(),
        )
    headers = answer["body"]["headers"]
    assert "authorization" not in headers and "cookie" not in headers and headers["x-mine"] == "1"


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"url": 1}, "url"),
        ({}, "url"),
        ({"url": "ftp://example.org/"}, "http://"),
        ({"url": "/relative"}, "http://"),
        ({"url": "http://"}, "http.request"),
        ({"url": "http://a/", "method": "TRACE"}, "method"),
        ({"url": "http://a/", "json": 1, "body": "x"}, "not both"),
        ({"url": "http://a/", "body": {"a": 1}}, "body"),
        ({"url": "http://a/", "headers": {"A": {}}}, "headers.A"),
        ({"url": "http://a/", "query": [1]}, "query"),
        ({"url": "http://a/", "timeout": 5}, "timeout"),
    ],
)
async def test_bad_parameters_are_named(http: HttpRequest, parameters: dict[str, Any], word: str) -> None:
    failure = await failure_of(http, **parameters)
    assert (failure.type, failure.retryable) == ("VALIDATION", False) and word in failure.message


async def test_headers_cannot_be_injected(http: HttpRequest, server: Server) -> None:
    failure = await failure_of(http, url=f"{server.base}/echo", headers={"X": "a\r\nY: b"})
    assert failure.type == "VALIDATION"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_loopback_is_refused_unless_allowed(server: Server, host: str) -> None:
    http = HttpRequest(Egress(), SystemClock())
    failure = await failure_of(http, url=f"http://{host}:{server.port}/echo")
    await http.close()
    assert (failure.type, failure.retryable) == ("VALIDATION", False)
    # aiohttp itself refuses the shortened forms of an address.
    assert "WECONNECT_HTTP_ALLOW" in failure.message or "not a canonical" in failure.message


async def test_a_redirect_inside_is_refused(server: Server) -> None:
    http = HttpRequest(Egress([ip_network("127.0.0.1/32")]), SystemClock())
    failure = await failure_of(http, url=f"{server.base}/redirect?to=http://169.254.169.254/latest")
    assert failure.type == "VALIDATION" and "169.254.169.254" in failure.message
    failure = await failure_of(http, url=f"{server.base}/redirect?to=file:///etc/passwd")
    assert failure.type == "VALIDATION"
    await http.close()


async def test_as_a_node(rig: Rig, server: Server) -> None:
    await rig.runner(egress=LOOPBACK)
    task = rig.task(
        "http.request", {"method": "POST", "url": "${ input.shop }/echo", "json": {"n": "${ input.n }"}},
        {"input": {"shop": server.base, "n": 4}},
    )  # fmt: skip
    output = json.loads((await rig.run(task)).output or b"")
    assert json.loads(output["body"]["body"]) == {"n": 4}
    failure = (
        await rig.run(rig.task("http.request", {"url": f"{server.base}/status?code=503&Retry-After=2"}))
    ).failure
    assert failure is not None and failure.retry_after_us == 2_000_000
    failure = (await rig.run(rig.task("http.request", {"url": f"{server.base}/raw/nul"}))).failure
    assert failure is not None and failure.type == "VALIDATION" and "NUL" in failure.message


async def test_a_cancelled_call_ends(rig: Rig) -> None:
    began = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        began.set()
        await asyncio.Event().wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", hang)
    site_runner = web.AppRunner(app, shutdown_timeout=0.1)
    await site_runner.setup()
    site = web.TCPSite(site_runner, "127.0.0.1", 0)
    await site.start()
    port = site_runner.addresses[0][1]
    runner = await rig.runner(egress=LOOPBACK)
    task = rig.publish(rig.task("http.request", {"url": f"http://127.0.0.1:{port}/"}))
    await began.wait()
    rig.owner.control(runner.runner_id, task)
    result = await rig.owner.result_of(task)
    assert result.failure is not None and result.failure.type == "CANCELLED"
    await site_runner.cleanup()
