"""Plain paths (`input.order.id`, `nodes.price.output`): resolved by walking dicts, without the evaluator.

Most expressions of real workflows are such paths, and converting a whole input into the evaluator's values
to pick one field costs milliseconds. The result equals the evaluator's for every value that it can hold; a
property test compares them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from services.core.definition.json_values import type_name
from services.core.errors import ExpressionError
from services.core.references import CEL_WORDS, PLAIN_PATH

# Longer paths are left to the evaluator, whose own bound on depth then holds.
SELECTIONS_MAX = 20


class PathProgram:
    """Program of a plain path."""

    __slots__ = ("_binding", "_fields", "source")

    def __init__(self, source: str, binding: str, fields: tuple[str, ...]) -> None:
        self.source = source
        self._binding = binding
        self._fields = fields

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """Value at the path. Raises `ExpressionError` when something on the way has no such key."""
        try:
            value = bindings[self._binding]
        except KeyError:
            raise ExpressionError(f"`{self.source}`: `{self._binding}` has no value here") from None
        for name in self._fields:
            if type(value) is not dict:
                raise ExpressionError(not_an_object(self.source, name, value))
            if name not in value:
                raise ExpressionError(no_such_key(self.source, name))
            value = value[name]
        return value


def path_program(source: str, names: Collection[str]) -> PathProgram | None:
    """Program for `source` when it is a plain path from one of the declared `names`, else None."""
    plain = PLAIN_PATH.match(source)
    if plain is None:
        return None
    text = plain[1]
    parts = tuple(text.split("."))
    if len(parts) > SELECTIONS_MAX or not CEL_WORDS.isdisjoint(parts):
        return None
    if parts[0] in names:
        return PathProgram(text, parts[0], parts[1:])
    if len(parts) > 1 and ".".join(parts[:2]) in names:
        return PathProgram(text, ".".join(parts[:2]), parts[2:])
    return None


def no_such_key(source: str, name: str) -> str:
    """Text of the error for a key that is not there."""
    return f"`{source}`: there is no key `{name}`; guard it with has(…) or give it a value"


def not_an_object(source: str, name: str, value: Any) -> str:
    """Text of the error for a field of something that has none."""
    return f"`{source}`: `{name}` is taken from {type_name(value)}, which has no fields"
