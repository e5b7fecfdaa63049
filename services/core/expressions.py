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
        """Program over the declared `names`. Raises `ExpressionError` for syntax, names and functions."""


class ExpressionChecker(Protocol):
    """Finds out what can be known of an expression without evaluating it."""

    def check(self, source: str, types: Mapping[str, str]) -> str:
        """Type of the expression's value: `bool`, `int`, `double`, `string`, `list`, `map` … or `dyn`,
        unknown.

        `types` declares names; a dotted name (`input.count`) types one field of another. Types are `dyn`,
        `bool`, `int`, `double`, `string`, `map` and `list<…>`. Raises `ExpressionError` for syntax, unknown
        names and functions, and for operations that their types do not have.
        """


class SchemaChecker(Protocol):
    """Judges JSON Schemas (draft 2020-12)."""

    def problems(self, schema: Any) -> list[tuple[str, str]]:
        """What makes `schema` no valid JSON Schema, as (path within it, message); empty when it is one."""
