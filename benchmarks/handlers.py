"""The handler that ours is measured with: returns its input."""

from __future__ import annotations

from typing import Any

from weconnect import App, Context

app = App("bench")


@app.node("bench.echo")
async def echo(value: dict[str, Any], ctx: Context) -> Any:
    """The input, unchanged."""
    return value["value"]
