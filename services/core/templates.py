"""Templates: JSON values whose strings may hold `${ expression }`.

A string that is one `${ … }` whole becomes the expression's value with its type; inside other text it
becomes text (a string as it is, anything else as compact JSON); `$${` is a literal `${`. Values are
templated at any depth, keys are not. Braces and string literals inside an expression are understood, so `${
{"a": "}"}.a }` is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from services.core.errors import ExpressionError
from services.core.expressions import Program
from services.core.references import NO_REFERENCES, References, tokens
from services.core.units import KIB

# How far the end of an embedded expression is looked for; keeps the scan linear in the text.
EXPRESSION_CHARACTERS_MAX = 4 * KIB

Json = Any
Bindings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression with what it refers to."""

    source: str
    program: Program
    references: References


@dataclass(frozen=True, slots=True)
class Embedded:
    """Source of one `${ … }` within a string."""

    source: str


class Template:
    """A compiled template. `constant`: it holds no expression and `resolve` hands out one shared object."""

    __slots__ = ("_resolve", "constant", "references")

    def __init__(
        self, resolve: Callable[[Bindings], Json], references: References, *, constant: bool
    ) -> None:
        self._resolve = resolve
        self.references = references
        self.constant = constant

    def resolve(self, bindings: Bindings) -> Json:
        """Value with every expression evaluated; not to be changed. Raises `ExpressionError`."""
        return self._resolve(bindings)


def compile_template(value: Json, compile_expression: Callable[[str], Expression]) -> Template:
    """Template of a JSON value. Raises `ExpressionError` for text that is none and for what does not
    compile.
    """
    found: list[Expression] = []

    def compile_one(source: str) -> Expression:
        expression = compile_expression(source)
        found.append(expression)
        return expression

    literal, resolve = _compile(value, compile_one)
    if resolve is None:
        return Template(lambda _: literal, NO_REFERENCES, constant=True)
    references = NO_REFERENCES
    for expression in found:
        references |= expression.references
    return Template(resolve, references, constant=False)


_Resolve = Callable[[Bindings], Json]


def _compile(value: Json, compile_one: Callable[[str], Expression]) -> tuple[Json, _Resolve | None]:
    """The value itself when it is constant, else a function that resolves it."""
    if isinstance(value, str):
        return _compile_text(value, compile_one) if "$" in value else (value, None)
    if isinstance(value, list):
        items = [_compile(item, compile_one) for item in value]
        if all(resolve is None for _, resolve in items):
            return [literal for literal, _ in items], None
        return None, lambda bindings: [r(bindings) if r is not None else literal for literal, r in items]
    if isinstance(value, dict):
        fields = [(key, *_compile(item, compile_one)) for key, item in value.items()]
        if all(resolve is None for _, _, resolve in fields):
            return {key: literal for key, literal, _ in fields}, None
        return None, lambda bindings: {k: r(bindings) if r is not None else v for k, v, r in fields}
    return value, None


def _compile_text(text: str, compile_one: Callable[[str], Expression]) -> tuple[Json, _Resolve | None]:
    parts = split_text(text)
    if len(parts) == 1 and isinstance(parts[0], Embedded):
        return None, compile_one(parts[0].source).program.evaluate
    if not any(isinstance(part, Embedded) for part in parts):
        return "".join(str(part) for part in parts), None
    pieces = [
        compile_one(part.source).program.evaluate if isinstance(part, Embedded) else part for part in parts
    ]

    def resolve(bindings: Bindings) -> str:
        return "".join(piece if isinstance(piece, str) else as_text(piece(bindings)) for piece in pieces)

    return None, resolve


def as_text(value: Json) -> str:
    """A value inside text: a string as it is, anything else as compact JSON (`null`, `1.5`, `[1,2]`)."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@lru_cache(4_096)
def split_text(text: str) -> tuple[str | Embedded, ...]:
    """Literal and embedded parts of a string. Raises `ExpressionError` for `${` that is open or empty."""
    parts: list[str | Embedded] = []
    literal = ""
    position = 0
    while True:
        dollar = text.find("$", position)
        if dollar < 0:
            literal += text[position:]
            break
        literal += text[position:dollar]
        if text.startswith("$${", dollar):
            literal += "${"
            position = dollar + 3
        elif text.startswith("${", dollar):
            end = _closing_brace(text, dollar + 2)
            source = text[dollar + 2 : end].strip()
            if not source:
                raise ExpressionError("`${ }` holds no expression; write `$${` for a literal `${`")
            if literal:
                parts.append(literal)
                literal = ""
            parts.append(Embedded(source))
            position = end + 1
        else:
            literal += "$"
            position = dollar + 1
    if literal or not parts:
        parts.append(literal)
    return tuple(parts)


# An expression without strings, braces and comments ends at the first `}`.
_NO_BRACES = re.compile(r"[^{}\"'`/]{0,4096}\}")


def _closing_brace(text: str, start: int) -> int:
    """Index of the `}` that closes the expression at `start`; looks no further than one may be long."""
    if simple := _NO_BRACES.match(text, start):
        return simple.end() - 1
    depth = 0
    for token in tokens(text[start : start + EXPRESSION_CHARACTERS_MAX + 1]):
        if token.kind != "mark":
            continue
        if token.text == "{":
            depth += 1
        elif token.text == "}":
            if depth == 0:
                return start + token.start
            depth -= 1
    raise ExpressionError(
        f"`{text[start - 2 : start + 40]}` is not closed by `}}`; write `$${{` for a literal `${{`"
    )


def expressions_in(value: Json, path: str = "") -> Iterator[tuple[str, str | ExpressionError]]:
    """Every embedded expression with its path; for a text that is no template, its error in the place."""
    if isinstance(value, str):
        if "$" in value:
            try:
                parts = split_text(value)
            except ExpressionError as error:
                yield path, error
                return
            yield from ((path, part.source) for part in parts if isinstance(part, Embedded))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from expressions_in(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from expressions_in(item, f"{path}.{key}" if path else str(key))
