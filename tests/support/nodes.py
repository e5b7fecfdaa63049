"""Handlers for tests with real runners; each writes its effect into the ledger first."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from tests.support.ledger import record
from weconnect import App, Context, NodeFailure

app = App("tests")
GATE_LOOK_SECONDS = 0.02


@app.node("test.effect")
async def effect(input: dict[str, Any], ctx: Context) -> Any:
    """Return `value`."""
    record(ctx, input.get("value"))
    return input.get("value")


@app.node("test.flaky")
async def flaky(input: dict[str, Any], ctx: Context) -> Any:
    """Fail in the first `failures` attempts, then return `value`."""
    record(ctx, input.get("value"))
    if ctx.attempt <= input.get("failures", 1):
        raise NodeFailure("FLAKY", f"attempt {ctx.attempt} fails")
    return input.get("value")


@app.node("test.failing")
async def failing(input: dict[str, Any], ctx: Context) -> None:
    """Fail always, with `type` and `message`; retryable unless `retryable` is false."""
    record(ctx)
    raise NodeFailure(
        input.get("type", "BROKEN"), input.get("message", ""), retryable=input.get("retryable", True)
    )


@app.node("test.busy")
def busy(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Take `seconds` in a thread, or until cancelled."""
    record(ctx)
    cancelled = ctx.wait_cancelled(input.get("seconds", 1.0))
    ctx.raise_if_cancelled()
    return {"cancelled": cancelled}


@app.node("test.gate")
def gate(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Wait until the file `path` exists, or until cancelled."""
    record(ctx)
    while not Path(input["path"]).exists() and not ctx.wait_cancelled(GATE_LOOK_SECONDS):
        ctx.heartbeat()
    ctx.raise_if_cancelled()
    return {"opened": True}


@app.node("test.talkative")
async def talkative(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Write `lines` log lines."""
    record(ctx)
    for number in range(input.get("lines", 3)):
        ctx.log.info("a line", number=number)
    return {"lines": input.get("lines", 3)}


@app.node("test.deadly")
async def deadly(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Kill the runner in the first `deaths` attempts."""
    record(ctx)
    if ctx.attempt <= input.get("deaths", 1):
        os._exit(9)
    return {"survived": ctx.attempt}


@app.node("test.deaf")
def deaf(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Take `seconds` in a thread, whoever cancels it."""
    record(ctx)
    threading.Event().wait(input.get("seconds", 1.0))
    return {"heard": ctx.cancelled}


@app.node("test.huge")
async def huge(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Return a text of `bytes` bytes."""
    record(ctx)
    return {"text": "x" * int(input["bytes"])}
