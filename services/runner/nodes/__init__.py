"""The node types that every runner performs."""

from __future__ import annotations

from services.runner.handlers import Handler, Mode
from services.runner.nodes.http_request import HttpRequest
from services.runner.nodes.plain import transform, write_log

BUILT_IN = "built-in"


def built_in(http: HttpRequest) -> list[Handler]:
    """Handlers of the built-in node types."""
    return [
        Handler("transform", transform, Mode.INLINE, False, "Reshape JSON: the output is `value`.", BUILT_IN),
        Handler("log", write_log, Mode.INLINE, True, "Write a line into the execution's log.", BUILT_IN),
        Handler("http.request", http, Mode.ASYNC, True, "Call an HTTP service.", BUILT_IN),
    ]
