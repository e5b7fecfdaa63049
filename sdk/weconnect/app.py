"""`App`: a named set of handlers. Runners load it (`WECONNECT_APPS=module:app`, entry point `weconnect.apps`)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)

NODE_TYPE_CHARACTERS_MAX = 128
_NODE_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*\Z")


@dataclass(frozen=True, slots=True)
class NodeHandler:
    """Code that performs a node type. `takes_context`: it is called with `(input, ctx)`, else with `(input)`."""

    type: str
    function: Handler
    is_async: bool
    takes_context: bool
    description: str


class App:
    """A set of handlers, each for one node type.

        app = App("shop")

        @app.node("shop.charge")
        async def charge(input, ctx):
            ctx.log.info("charging", order=input["order"])
            return {"receipt": await pay(input, key=ctx.idempotency_key)}

    A handler gets the node's resolved parameters and a `Context`, and returns what JSON can say (dataclasses
    included). A synchronous one runs in a thread. Each may run more than once for the same node: hand
    `ctx.idempotency_key` to whatever must happen once.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: dict[str, NodeHandler] = {}

    @property
    def nodes(self) -> dict[str, NodeHandler]:
        """Handlers by node type; a copy."""
        return dict(self._nodes)

    def node(self, type: str, *, description: str = "") -> Callable[[H], H]:
        """Register the decorated function for a node type; the function itself stays as it was.

        Raises ValueError for a type that is no type name or is registered already, TypeError for a function
        that cannot be called with `(input, ctx)` or `(input)`.
        """
        if len(type) > NODE_TYPE_CHARACTERS_MAX or not _NODE_TYPE.match(type):
            raise ValueError(f"{type!r} is no node type: letters, digits, '.', '_' and '-', a letter first")
        if type in self._nodes:
            raise ValueError(f"app {self.name!r} already has a handler for {type!r}")

        def register(function: H) -> H:
            self._nodes[type] = NodeHandler(
                type, function, _is_async(function), _takes_context(type, function),
                description or _first_line(function),
            )  # fmt: skip
            return function

        return register


def _is_async(function: Handler) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - the coroutine function behind a callable object
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _takes_context(type: str, function: Handler) -> bool:
    signature = inspect.signature(function)
    for arguments in ((None, None), (None,)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) == 2
    raise TypeError(f"the handler for {type!r} must take (input, ctx) or (input)")


def _first_line(function: Handler) -> str:
    text = inspect.getdoc(function) or ""
    return text.partition("\n")[0]
