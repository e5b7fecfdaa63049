"""Turns what the CEL library says went wrong into a sentence with the expression, the types and the cure."""

from __future__ import annotations

import re

from services.core.errors import ExpressionError
from services.core.paths import no_such_key

SOURCE_SHOWN_MAX = 160

_CODE_BEFORE = re.compile(r"^[A-Z_]+: ")
_CODE_AFTER = re.compile(r"\s*\[[A-Z_]+\]\s*$")
_COMPILE_LINE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_CONTAINER = re.compile(r" \(in container '.*'\)$")
_NO_OVERLOAD = re.compile(r"No matching overloads found : (\S+?)(?:\((.*)\))?$")
_NO_OVERLOAD_CHECKED = re.compile(r"found no matching overload for '(.+?)' applied to '\((.*)\)'")
_MISSING_KEY = re.compile(r"Key not found in map : \"?(.*?)\"?$")
_INDEX = re.compile(r"Index error: index=(-?\d+) size=(\d+)")
_OUT_OF_RANGE = re.compile(r"Integer value '(-?\d+)' out of range")
_TYPE_NAMES = {"int64": "int", "uint64": "uint", "null_type": "null", "bool": "bool", "*dynamic*": "dyn"}
_NUMBERS = {"int", "uint", "double"}


def shown(source: str) -> str:
    """An expression in an error's text, shortened."""
    text = source if len(source) <= SOURCE_SHOWN_MAX else source[:SOURCE_SHOWN_MAX] + "…"
    return f"`{text}`"


def compile_error(source: str, text: str) -> ExpressionError:
    """Error of an expression that does not compile."""
    reasons: list[str] = []
    for line, column, said in _COMPILE_LINE.findall(text):
        message = _CODE_AFTER.sub("", said).strip()
        where = f" (line {line}, column {column})" if int(column) > 0 else ""
        reason = _explain(source, _CONTAINER.sub("", message))
        if reason + where not in reasons:
            reasons.append(reason + where)
    if not reasons:
        reasons.append(_explain(source, _stripped(text)))
    return ExpressionError(f"{shown(source)}: " + "; ".join(reasons[:5]))


def evaluation_error(source: str, text: str) -> ExpressionError:
    """Error of an expression that could not be evaluated."""
    plain = _stripped(text)
    if missing := _MISSING_KEY.search(plain):
        return ExpressionError(no_such_key(source if len(source) <= SOURCE_SHOWN_MAX else "…", missing[1]))
    return ExpressionError(f"{shown(source)}: {_explain(source, plain)}")


def _stripped(text: str) -> str:
    return _CODE_BEFORE.sub("", _CODE_AFTER.sub("", text.strip())).rstrip(".")


def _explain(source: str, text: str) -> str:
    """The library's message with types as an author knows them and what to do about it."""
    if overload := _NO_OVERLOAD.search(text) or _NO_OVERLOAD_CHECKED.search(text):
        return _overload(
            overload[1], [_TYPE_NAMES.get(name, name) for name in (overload[2] or "").split(", ")]
        )
    if index := _INDEX.search(text):
        return f"there is no item {index[1]} in a list of {index[2]}; check size(…) first"
    if number := _OUT_OF_RANGE.search(text):
        return f"the integer {number[1]} is beyond 64 bits; send it as text or as a double"
    for said, meant in _SENTENCES:
        if said in text:
            return meant
    if text.startswith("undeclared reference to"):
        return f"{text}: no such name or function is in sight here"
    return text


_SENTENCES = (
    (
        "Iteration budget exceeded",
        "its comprehensions walk over too many items; leave that to a handler",
    ),
    ("recursion", "it is nested too deeply; split it, or leave that to a handler"),
    (
        "Applying SELECT to non-message type",
        "a field is taken from a value that is no object; guard it with has(…)",
    ),
    ("integer overflow", "an integer overflows 64 bits; write double(x) for large numbers"),
    ("divide by zero", "an integer is divided by zero; guard it with a condition"),
    ("modulus by zero", "an integer is divided by zero; guard it with a condition"),
    ("construction from null is not valid", "a text holds a lone surrogate, which is no valid Unicode"),
    ("Unable to convert function return value", "the result is an optional; end it with `.orValue(…)`"),
)


def _overload(function: str, types: list[str]) -> str:
    given = ", ".join(types)
    if function == "<jump_condition>":
        return "the condition before `?` is no bool; write a comparison"
    operator = re.fullmatch(r"_(\S+)_|([!-])_|@?(in)", function)
    name = next((part for part in operator.groups() if part), function) if operator else function
    name = "[]" if function == "_[_]" else "? :" if function == "_?_:_" else name
    if name in ("&&", "||", "!"):
        return f"`{name}` takes bools only{f', not ({given})' if given else ''}; write a comparison such as `x != null`"
    sentence = f"`{name}` has no form for ({given})"
    if operator and len(set(types)) > 1 and set(types) <= _NUMBERS:
        return f"{sentence}; numbers of different types do not mix here: write `double(x)` on the other side"
    if operator and "string" in types and set(types) & _NUMBERS:
        return f"{sentence}; convert one side: `string(x)`, `int(x)` or `double(x)`"
    return sentence
