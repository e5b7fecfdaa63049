"""The expression language: CEL, as cel-expr-python (Google's cel-cpp) evaluates it. See docs/adr/0003-cel.md.

Values go in and come out as JSON: a timestamp comes out as RFC 3339 text, a duration as seconds (`"5400s"`),
bytes as base64, an unsigned integer as an integer, the keys of a map as text. NaN, infinities, NUL
characters and types have no JSON and are errors. Beside CEL's own functions there are its `strings`, `math`
and `optional` libraries, and `sum(list)`.
"""

from __future__ import annotations

import base64
import ctypes
import math
import re
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext.ext_math import ExtMath
from cel_expr_python.ext.ext_optional import ExtOptional
from cel_expr_python.ext.ext_strings import ExtStrings

from services.adapters.cel_bounds import Bounds, part_of, parts_used
from services.adapters.cel_errors import compile_error, evaluation_error, shown
from services.core.errors import ExpressionError
from services.core.expressions import Program
from services.core.paths import path_program
from services.core.references import paths_in
from services.core.units import KIB, MIB

EXPRESSION_BYTES_MAX = 4 * KIB
# Characters and items of a result together. Results may share what they repeat, so they are counted as they
# unfold.
RESULT_SIZE_MAX = 4 * MIB
RESULT_DEPTH_MAX = 128
ENVIRONMENTS_KEPT = 1_024
PROGRAMS_KEPT = 16_384

_VALID = re.compile("[^\\0\ud800-\udfff]*\\Z")
_INT64_MAX = (1 << 63) - 1

if sys.implementation.name == "cpython" and sys.version_info < (3, 12):
    # cel-expr-python 0.1.3 drops one reference of None for every null that it converts, and the process
    # aborts ("deallocating None") after some 20,000 of them. From 3.12 on None is immortal (PEP 683) and
    # nothing happens; here it is given references that no process lives long enough to lose.
    ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40


class CelProgram:
    """A compiled CEL expression over declared names."""

    __slots__ = ("_bounds", "_evaluate", "_grouped", "_names", "_parts", "source")

    def __init__(
        self, source: str, names: tuple[str, ...], expression: cel.Expression, bounds: Bounds
    ) -> None:
        self.source = source
        self._names = tuple(name for name in names if "." not in name)
        self._grouped = tuple((name, *name.split(".", 1)) for name in names if "." in name)
        self._evaluate = expression.eval
        self._parts = parts_used(source, names)
        self._bounds = bounds

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """Value as plain JSON; of the declared names, only the parts the text uses are converted.

        Raises `ExpressionError`.
        """
        parts = self._parts
        try:
            data = {name: part_of(bindings[name], parts[name]) for name in self._names}
            for name, root, rest in self._grouped:
                data.setdefault(root, {})[rest] = part_of(bindings[name], parts[name])
            if self._bounds.growing:
                self._bounds.check(data)
            value = self._evaluate(data=data)
            plain = value.value()
        except KeyError as missing:
            raise ExpressionError(f"{shown(self.source)}: `{missing.args[0]}` has no value here") from None
        except (RuntimeError, TypeError, ValueError, SystemError) as error:
            raise evaluation_error(self.source, str(error)) from None
        kind = type(plain)
        if kind is bool or kind is int or plain is None:
            return plain
        if kind is str and value.type() == cel.Type.ERROR:
            raise evaluation_error(self.source, plain)
        return _Unfolding(self.source).json(plain, 0)


class CelCompiler:
    """Compiles and checks CEL; keeps a bounded number of environments and programs.

    The first compilation in an environment costs a millisecond and a declared name 25 µs, so dotted names
    (`nodes.price`) share one declaration of their root, and a few environments serve every workflow. That
    the text uses no other name under that root is checked here.
    """

    def __init__(self) -> None:
        # Bound to the instance, so that a dropped compiler frees what it kept.
        self._environment: Callable[[tuple[tuple[str, str], ...]], cel.Env] = lru_cache(ENVIRONMENTS_KEPT)(
            _environment
        )
        self._program: Callable[[str, tuple[str, ...]], CelProgram] = lru_cache(PROGRAMS_KEPT)(self._compile)

    def compile(self, source: str, names: Collection[str]) -> Program:
        """Program over the declared `names` (dotted ones included). Raises `ExpressionError`.

        A plain path becomes a program that walks dicts: it means the same and is fifty times faster on large values.
        """
        return path_program(source, names) or self._program(source, tuple(sorted(names)))

    def check(self, source: str, types: Mapping[str, str]) -> str:
        """Checked type of an expression; see `core.expressions.ExpressionChecker`."""
        expression, _ = self._parse(source, tuple(sorted(types.items())))
        return _type_name(expression.return_type())

    def _compile(self, source: str, names: tuple[str, ...]) -> CelProgram:
        roots = {name.split(".", 1)[0] for name in names}
        expression, bounds = self._parse(source, tuple((root, "dyn") for root in sorted(roots)))
        grouped = roots.difference(names)
        if grouped:
            for path in paths_in(source):
                if path.parts[0] in grouped and ".".join(path.parts[:2]) not in names:
                    raise compile_error(source, f"undeclared reference to '{path}'")
        return CelProgram(source, names, expression, bounds)

    def _parse(self, source: str, types: tuple[tuple[str, str], ...]) -> tuple[cel.Expression, Bounds]:
        size = len(source.encode(errors="surrogatepass"))
        if size > EXPRESSION_BYTES_MAX:
            raise ExpressionError(
                f"{shown(source)}: an expression has at most {EXPRESSION_BYTES_MAX} bytes, not {size}"
            )
        if not source.strip() or not _VALID.match(source):
            raise ExpressionError(
                "an expression is not empty and holds neither NUL characters nor lone surrogates"
            )
        # Before it is compiled: macros unfold then, and some repeat their target.
        bounds = Bounds(source, [name for name, _ in types])
        try:
            return self._environment(types).compile(source), bounds
        except (RuntimeError, TypeError, ValueError, SystemError) as error:
            raise compile_error(source, str(error)) from None


class _Unfolding:
    """Turns one result into JSON, counting what it unfolds to."""

    __slots__ = ("left", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.left = RESULT_SIZE_MAX

    def json(self, value: Any, depth: int) -> Any:
        """JSON of `value`, whose items may be lazy wrappers."""
        kind = type(value)
        if kind is bool or kind is int or value is None:
            return value
        if kind is str:
            self.spend(len(value))
            if "\0" in value:
                raise self.refused("holds a NUL character, which no text here may hold")
            return value
        if kind is float:
            if math.isfinite(value):
                return value
            raise self.refused(
                f"is {value}, which JSON has no number for; guard the division with a condition"
            )
        if kind is list:
            return self.items(value, depth)
        if kind is dict:
            return self.fields(value, depth)
        return self.scalar(value)

    def items(self, values: list[Any], depth: int) -> list[Any]:
        self.enter(len(values), depth)
        return [self.json(item.value(), depth + 1) for item in values]

    def fields(self, values: dict[Any, Any], depth: int) -> dict[str, Any]:
        self.enter(len(values), depth)
        result: dict[str, Any] = {}
        # The library's maps have no order, not even the same one in every process.
        for name, item in sorted(((_key_text(key), item) for key, item in values.items()), key=_first):
            self.spend(len(name))
            result[name] = self.json(item.value(), depth + 1)
        return result

    def scalar(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat().replace("+00:00", "Z")
        if isinstance(value, timedelta):
            return duration_text(value)
        if isinstance(value, bytes | bytearray):
            self.spend(len(value))
            return base64.b64encode(value).decode()
        raise self.refused(f"is a {type(value).__name__.lower()}, which has no JSON; write `string(…)`")

    def enter(self, items: int, depth: int) -> None:
        self.spend(items)
        if depth >= RESULT_DEPTH_MAX:
            raise self.refused(f"is nested deeper than {RESULT_DEPTH_MAX}")

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise self.refused(f"is larger than {RESULT_SIZE_MAX} characters and items; take less of it")

    def refused(self, why: str) -> ExpressionError:
        return ExpressionError(f"{shown(self.source)}: the result {why}")


_first = itemgetter(0)


def _key_text(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return key if isinstance(key, str) else str(key)


def duration_text(value: timedelta) -> str:
    """A duration as protobuf's JSON writes it, in seconds: `5400s`, `1.5s`."""
    microseconds = value // timedelta(microseconds=1)
    sign = "-" if microseconds < 0 else ""
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    return (
        f"{sign}{seconds}.{fraction:06d}".rstrip("0").rstrip(".") + "s" if fraction else f"{sign}{seconds}s"
    )


def _sum(values: list[Any]) -> int | float:
    """Sum of a list of numbers: an integer when all are, else a double; 0 for none."""
    total: int | float = 0
    for index, value in enumerate(values):
        if type(value) is not int and type(value) is not float:
            raise TypeError(f"sum() adds numbers, item {index} is {type(value).__name__}")
        total += value
    if isinstance(total, int) and not -_INT64_MAX - 1 <= total <= _INT64_MAX:
        raise OverflowError("integer overflow in sum()")
    return total


def _extensions() -> list[cel.CelExtensionBase]:
    overload = cel.Overload(
        "sum_list",
        return_type=cel.Type.DYN,
        parameters=[cel.Type.List(cel.Type.DYN)],
        is_member=False,
        impl=_sum,
    )
    ours = cel.CelExtension("weconnect", [cel.FunctionDecl("sum", [overload])])
    return [ExtStrings(), ExtMath(), ExtOptional(), ours]


def _environment(types: tuple[tuple[str, str], ...]) -> cel.Env:
    return cel.NewEnv(variables={name: _type(text) for name, text in types}, extensions=_shared_extensions())


@lru_cache(1)
def _shared_extensions() -> list[cel.CelExtensionBase]:
    return _extensions()


def _type(text: str) -> cel.Type:
    if text.startswith("list<"):
        return cel.Type.List(_type(text[5:-1]))
    if text == "map":
        return cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    named: dict[str, cel.Type] = {
        "dyn": cel.Type.DYN,
        "bool": cel.Type.BOOL,
        "int": cel.Type.INT,
        "double": cel.Type.DOUBLE,
        "string": cel.Type.STRING,
    }
    return named[text]


def _type_name(kind: cel.Type) -> str:
    name: str = kind.name()
    return name.split("<", 1)[0].lower()
