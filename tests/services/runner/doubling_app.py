"""An app with a node type that another app has too."""

from __future__ import annotations

from typing import Any

from weconnect import App

app = App("doubling")


@app.node("echo")
def echo(input: Any) -> Any:
    """Return the input."""
    return input
