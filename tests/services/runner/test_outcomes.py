"""What handlers return and raise becomes an output or a failure of the right type."""

from __future__ import annotations

import dataclasses
import datetime
import math
from io import BytesIO
from typing import Any

import orjson
import pytest
import structlog

from services.adapters.log import configure_logging
from services.adapters.wire.tasks import encode_result
from services.core.ids import uuid_text
from services.core.tasks import VALUE_BYTES_MAX, Failure, Result
from services.runner.outcomes import DETAILS_BYTES_MAX, MESSAGE_CHARACTERS_MAX, failed, succeeded, timed_out
from tests.services.runner.rig import Rig
from weconnect import App, Context, NodeFailure, NonRetryable


@dataclasses.dataclass
class Receipt:
    number: int
    total: float
    parts: list[Any] = dataclasses.field(default_factory=list)


def test_values_are_json() -> None:
    assert succeeded(None) == b"null"
    assert succeeded(Receipt(1, 2.5)) == b'{"number":1,"total":2.5,"parts":[]}'
    assert succeeded(datetime.date(2026, 1, 2)) == b'"2026-01-02"'
    assert succeeded({"a": None, "b": [None, 1.5]}) == b'{"a":null,"b":[null,1.5]}'
    assert succeeded("a\\u0000") == b'"a\\\\u0000"'


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (math.nan, "NaN"),
        ({"a": [1, math.inf]}, "NaN"),
        (Receipt(1, math.nan), "NaN"),
        (Receipt(1, 1.0, [{"deep": (-math.inf,)}]), "NaN"),
        ("a\0b", "NUL"),
        ({"a\0": 1}, "NUL"),
        ({1: 2}, "serialisable"),
        (object(), "serialisable"),
        (2**70, "serialisable"),
        ("\ud800", "serialisable"),
        ({1, 2}, "serialisable"),
    ],
)
def test_what_json_cannot_say_is_refused_with_words(value: Any, word: str) -> None:
    failure = succeeded(value)
    assert isinstance(failure, Failure) and failure.type == "VALIDATION" and not failure.retryable
    assert word in failure.message and failure.message.startswith("output")


def test_a_value_that_refers_to_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    assert isinstance(succeeded(value), Failure)


def test_an_output_over_the_bound_is_a_resource_failure() -> None:
    assert isinstance(succeeded("x" * (VALUE_BYTES_MAX - 2)), bytes)
    failure = succeeded("x" * (VALUE_BYTES_MAX - 1))
    assert isinstance(failure, Failure) and failure.type == "RESOURCE" and not failure.retryable


def test_plain_exceptions_are_node_executions() -> None:
    try:
        raise ValueError("bad\0 thing")
    except ValueError as error:
        failure = failed(error)
    assert (
        failure.type == "NODE_EXECUTION"
        and failure.retryable
        and failure.message == "ValueError: bad\0 thing"
    )
    assert orjson.loads(failure.details)["exception"] == "builtins.ValueError"
    assert "test_outcomes.py" in orjson.loads(failure.details)["at"]
    assert failed(MemoryError()).type == "RESOURCE"


def test_node_failures_say_what_they_are() -> None:
    failure = failed(NodeFailure("BUSY", "later", retry_after=1.5, details={"a": math.nan}))
    assert (failure.type, failure.message, failure.retryable, failure.retry_after_us) == (
        "BUSY",
        "later",
        True,
        1_500_000,
    )
    assert b"NaN" in failure.details
    assert not failed(NonRetryable("DECLINED", "no")).retryable


def test_failures_are_bounded() -> None:
    failure = failed(NodeFailure("T" * 1000, "m" * 100_000, details="d" * 100_000))
    assert len(failure.type) == 128
    assert len(failure.message) < MESSAGE_CHARACTERS_MAX + 50 and "[cut: 100000" in failure.message
    assert len(failure.details) < DETAILS_BYTES_MAX

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert failed(Mute()).message == "Mute"


def test_a_timeout_names_itself() -> None:
    failure = timed_out("heartbeat", 1_500_000)
    assert failure.type == "TIMEOUT" and orjson.loads(failure.details) == {
        "timeout": "heartbeat",
        "seconds": 1.5,
    }


async def test_handlers_of_every_kind(rig: Rig) -> None:
    app = App("a")

    @app.node("plain")
    def plain(input: Any) -> Any:
        return {"got": input}

    @app.node("full")
    async def full(input: Any, ctx: Context) -> Any:
        return [
            ctx.execution_id,
            ctx.node_id,
            ctx.node_name,
            ctx.attempt,
            ctx.idempotency_key,
            ctx.workflow_name,
        ]

    @app.node("broken")
    def broken(input: Any, ctx: Context) -> None:
        raise KeyError("x")

    @app.node("exits")
    async def exits(input: Any, ctx: Context) -> None:
        raise SystemExit(3)

    @app.node("big")
    async def big(input: Any, ctx: Context) -> str:
        return "x" * VALUE_BYTES_MAX

    await rig.runner(app)
    assert (await rig.run(rig.task("plain", {"a": 1}))).output == b'{"got":{"a":1}}'
    assert (await rig.run(rig.task("plain"))).output == b'{"got":{}}'
    task = rig.task("full", node_name="Charge it", workflow_name="order")
    value = orjson.loads((await rig.run(task)).output or b"")
    assert value[1:] == ["n", "Charge it", 1, "key-1", "order"]
    assert value[0].replace("-", "") == task.execution_id.hex()
    for type, kind in (("broken", "NODE_EXECUTION"), ("exits", "NODE_EXECUTION"), ("big", "RESOURCE")):
        failure = (await rig.run(rig.task(type))).failure
        assert failure is not None and failure.type == kind
    await rig.emptied()


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_lines_of_a_handlers_own_loggers_name_the_attempt(rig: Rig, kind: str) -> None:
    app = App("a")
    if kind == "async":

        @app.node("speaks")
        async def speaks(input: Any) -> None:
            structlog.get_logger().info("said")
    else:

        @app.node("speaks")
        def speaks_sync(input: Any) -> None:
            structlog.get_logger().info("said")

    lines = BytesIO()
    configure_logging("runner", stream=lines)
    try:
        await rig.runner(app)
        task = rig.task("speaks", attempt=4)
        assert (await rig.run(task)).failure is None
    finally:
        structlog.reset_defaults()
    (said,) = [line for line in map(orjson.loads, lines.getvalue().splitlines()) if line["event"] == "said"]
    assert (said["execution_id"], said["node_id"], said["attempt"]) == (uuid_text(task.execution_id), "n", 4)


async def test_parameters_that_cannot_be_resolved_fail_the_node(rig: Rig) -> None:
    await rig.runner()
    for parameters in (
        {"value": "${ input.missing.deep }"},
        {"value": "${ 1 + }"},
        {"value": "${ unknown }"},
    ):
        failure = (await rig.run(rig.task("transform", parameters, {"input": {}}))).failure
        assert failure is not None and failure.type == "EXPRESSION" and not failure.retryable
    failure = (await rig.run(rig.task("transform", {"valeu": 1}))).failure
    assert failure is not None and failure.type == "VALIDATION"
    failure = (await rig.run(rig.task("log", {"message": "x", "level": "LOUD"}))).failure
    assert failure is not None and failure.type == "VALIDATION"


class Unspeakable(NodeFailure):
    """Whoever asks it for its type ends the process, were it let."""

    @property
    def type(self) -> str:
        raise SystemExit(3)

    @type.setter
    def type(self, value: str) -> None:
        """Nothing is kept."""


@pytest.mark.parametrize(
    "error",
    [
        NodeFailure("\ud800", "\ud800"),
        ValueError("no file \udcff"),
        Unspeakable(),
        NodeFailure("T", "m", details={"a": "\ud800"}),
    ],
)
def test_whatever_a_handler_raises_can_be_sent(error: BaseException) -> None:
    """A result that cannot be made would hold its execution until its timeout, with a runner that beats for it."""
    failure = failed(error)
    encode_result(Result(1, bytes(16), 0, 1, 0, 0, None, failure, False))
    assert failure.type in {"?", "T", "NODE_EXECUTION"}
    assert orjson.dumps(failure.message)
