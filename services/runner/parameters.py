"""Parameters of tasks: parsed and compiled once for all executions of a version, resolved for each task."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import orjson

from services.core.errors import ExpressionError
from services.core.expressions import ExpressionCompiler
from services.core.references import NO_REFERENCES, mentions
from services.core.templates import Expression, Template, compile_template

# Distinct parameters kept compiled; each is at most a few KiB.
COMPILED_MAX = 4096


class Parameters:
    """Resolves parameters, with the compiled ones of the latest versions kept (LRU)."""

    def __init__(self, compiler: ExpressionCompiler, compiled_max: int = COMPILED_MAX) -> None:
        self._compiler = compiler
        self._compiled_max = compiled_max
        self._compiled: OrderedDict[bytes, _Compiled] = OrderedDict()

    def resolve(self, parameters: bytes, bindings: bytes) -> Any:
        """Value of the parameters, an empty object when there are none; the handler may change it.

        Raises ExpressionError.
        """
        if not parameters:
            return {}
        compiled = self._compiled.get(parameters)
        if compiled is None:
            compiled = self._remember(parameters)
        else:
            self._compiled.move_to_end(parameters)
        if compiled.template is None:
            # No expression in it: parsing makes a copy.
            return orjson.loads(parameters)
        value = compiled.template.resolve(orjson.loads(bindings) if bindings else {})
        return _copied(value) if compiled.shares else value

    def _remember(self, parameters: bytes) -> _Compiled:
        compiled = self._compiled[parameters] = _Compiled(parameters, self._compiler)
        if len(self._compiled) > self._compiled_max:
            self._compiled.popitem(last=False)
        return compiled


class _Compiled:
    """One compiled value. `shares`: its resolved values share constant lists or objects with one another."""

    __slots__ = ("shares", "template")

    def __init__(self, parameters: bytes, compiler: ExpressionCompiler) -> None:
        def compile_one(source: str) -> Expression:
            return Expression(source, compiler.compile(source, mentions(source).names()), NO_REFERENCES)

        self.template: Template | None = None
        self.shares = False
        try:
            value = orjson.loads(parameters)
        except orjson.JSONDecodeError as error:
            raise ExpressionError(f"the parameters are not JSON: {error}") from None
        if b"${" in parameters:
            self.template = compile_template(value, compile_one)
            self.shares = self.template.constant or _holds_constant(value)


def _holds_constant(value: Any) -> bool:
    """Whether some list or object within has no expression in it."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(
        isinstance(item, dict | list) and (not _has_expression(item) or _holds_constant(item))
        for item in items
    )


def _has_expression(value: Any) -> bool:
    if isinstance(value, str):
        return "${" in value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_has_expression(item) for item in items)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value
