"""An app for runner processes under test. Its handlers signal by log lines and wait for named pipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weconnect import App, Context

app = App("tests")
not_an_app = 7


@app.node("wait.for.pipe")
def wait_for_pipe(input: Any, ctx: Context) -> str:
    """Return what comes through a named pipe."""
    ctx.log("began")
    return Path(input["pipe"]).read_text()


@app.node("echo")
def echo(input: Any) -> Any:
    """Return the input."""
    return input
