"""The port to an expression language. The adapter is CEL (`adapters.cel`); tests may bring their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol


class Program(Protocol):
    """A compiled expression."""

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """Value as plain JSON. `bindings` has plain JSON under each declared name (`input`, `nodes.a` …).

        Raises `ExpressionError` naming the expression, the types and the cure; bounded in time and size.
        """


class ExpressionCompiler(Protocol):
    """Compiles expressions; the same source with the same names may return the same program."""

    def compile(self, source: str, names: Collection[str]) -> Program:
        """Program over the declared `names`. Raises `ExpressionError` for syntax, unknown names and functions."""
