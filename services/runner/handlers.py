"""The node types that this runner performs: built-in ones and those of users' apps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from weconnect import App


class Mode(Enum):
    """Where a handler runs."""

    INLINE = "inline"  # in the loop, at once: built-in ones that never wait
    ASYNC = "async"  # in the loop, as a task
    THREAD = "thread"  # in a thread of the pool


@dataclass(frozen=True, slots=True)
class Handler:
    """Code for one node type, called with `(input, ctx)` or `(input)`; `origin` is `built-in` or the app's name."""

    type: str
    function: Callable[..., Any]
    mode: Mode
    takes_context: bool
    description: str
    origin: str


class HandlerError(Exception):
    """Two handlers want the same node type; the text names both."""


class Handlers:
    """Handlers by node type."""

    def __init__(self, builtin: Iterable[Handler] = ()) -> None:
        self._by_type = {handler.type: handler for handler in builtin}

    def add(self, app: App) -> None:
        """Take an app's handlers. Raises HandlerError for a type that is taken."""
        for type, node in app.nodes.items():
            taken = self._by_type.get(type)
            if taken is not None:
                raise HandlerError(f"app {app.name!r} and {taken.origin!r} both have a handler for {type!r}")
            mode = Mode.ASYNC if node.is_async else Mode.THREAD
            self._by_type[type] = Handler(
                type, node.function, mode, node.takes_context, node.description, app.name
            )

    def get(self, type: str) -> Handler | None:
        """Handler for a node type, None when this runner has none."""
        return self._by_type.get(type)

    @property
    def types(self) -> tuple[str, ...]:
        """Node types, sorted."""
        return tuple(sorted(self._by_type))

    def all(self) -> list[Handler]:
        """Handlers, sorted by type."""
        return [self._by_type[type] for type in self.types]
