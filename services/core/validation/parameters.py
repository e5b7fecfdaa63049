"""Parameters of the node types that are part of the language."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from services.core.definition.duration import duration_us
from services.core.definition.fields import NAME_CHARACTERS_MAX
from services.core.definition.json_values import type_name
from services.core.node_types import FAILURE_PORTS
from services.core.validation.reviewing import Review, did_you_mean

HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
LOG_LEVELS = frozenset({"DEBUG", "INFO", "WARN", "ERROR"})
MERGE_MODES = ("BY_NODE", "APPEND", "FIRST")
SWITCH_CASES_MAX = 1_000

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


class _Parameters:
    """Parameters of one node under review."""

    def __init__(self, found: Review, path: str, node_type: str, values: dict[str, Any]) -> None:
        self.found, self.path, self.type, self.values = found, path, node_type, values

    def error(self, field: str, reason: str, message: str) -> None:
        self.found.error(f"{self.path}.{field}" if field else self.path, reason, message)

    def only(self, *known: str) -> None:
        for name in self.values:
            if name not in known:
                there = f"there are: {', '.join(known)}" if known else "it has none"
                hint = did_you_mean(name, known) or f"; {there}"
                self.error(
                    name[:80], "UNKNOWN_FIELD", f"a `{self.type}` node has no parameter `{name[:80]}`{hint}"
                )

    def required(self, name: str) -> Any:
        value = self.values.get(name)
        if value is None or value == "":
            self.error(name, "REQUIRED", f"a `{self.type}` node needs `{name}`")
            return None
        return value

    def kind(self, name: str, *kinds: type[Any], wanted: str) -> Any:
        """Value of a parameter when it is there, of these types and not a template; else None."""
        value = self.values.get(name)
        if value is None or is_template(value):
            return None
        if isinstance(value, bool) or not isinstance(value, kinds):
            self.error(name, "WRONG_TYPE", f"must be {wanted}, not {type_name(value)}")
            return None
        return value


def is_template(value: Any) -> bool:
    """Whether a value is a text that holds an expression, so that it is known only when it is resolved."""
    return isinstance(value, str) and "${" in value


def check_parameters(found: Review) -> None:
    """Checks the parameters of every node whose type is part of the language."""
    for index, node in enumerate(found.definition.nodes):
        check = _CHECKS.get(node.type)
        if check is None:
            continue
        path = f"nodes[{index}].parameters"
        values = {} if node.parameters is None else node.parameters
        if isinstance(values, dict):
            check(_Parameters(found, path, node.type, values))
        else:
            found.error(
                path,
                "WRONG_TYPE",
                f"parameters of a `{node.type}` node are an object, not {type_name(values)}",
            )


def _condition(node: _Parameters) -> None:
    node.only("condition")
    value = node.required("condition")
    if value is not None and not isinstance(value, str):
        node.error("condition", "WRONG_TYPE", f"must be an expression, as a text, not {type_name(value)}")


def _switch(node: _Parameters) -> None:
    node.only("cases", "default")
    default = node.required("default")
    if default is not None:
        _check_port_name(node, "default", default)
    cases = node.values.get("cases")
    if cases is None:
        cases = []
    if not isinstance(cases, list):
        node.error("cases", "WRONG_TYPE", f"must be a list of {{port, when}}, not {type_name(cases)}")
        return
    if len(cases) > SWITCH_CASES_MAX:
        node.error("cases", "TOO_MANY", f"has {len(cases)} cases, more than {SWITCH_CASES_MAX}")
        return
    seen: set[str] = set()
    for index, case in enumerate(cases):
        at = f"cases[{index}]"
        if not isinstance(case, dict):
            node.error(at, "WRONG_TYPE", f"must be {{port, when}}, not {type_name(case)}")
            continue
        _check_case(node, case, at, seen)


def _check_case(node: _Parameters, case: dict[str, Any], at: str, seen: set[str]) -> None:
    for name in case:
        if name not in ("port", "when"):
            hint = did_you_mean(name, ("port", "when"))
            node.error(f"{at}.{name[:80]}", "UNKNOWN_FIELD", f"a case has no `{name[:80]}`{hint}")
    port, when = case.get("port"), case.get("when")
    if _check_port_name(node, f"{at}.port", port):
        if port in seen:
            node.error(f"{at}.port", "DUPLICATE_PORT", f"`{port}` is the port of a case before")
        seen.add(str(port))
    if when is None or when == "":
        node.error(f"{at}.when", "REQUIRED", "a case needs `when`")
    elif not isinstance(when, str):
        node.error(f"{at}.when", "WRONG_TYPE", f"must be an expression, as a text, not {type_name(when)}")


def _check_port_name(node: _Parameters, at: str, port: Any) -> bool:
    if not isinstance(port, str) or not 0 < len(port) <= NAME_CHARACTERS_MAX:
        node.error(at, "INVALID_PORT", f"a port is a text of 1 to {NAME_CHARACTERS_MAX} characters")
        return False
    if port in FAILURE_PORTS:
        node.error(at, "INVALID_PORT", f"`{port}` is the port of failures; choose another name")
        return False
    return True


def _merge(node: _Parameters) -> None:
    node.only("mode")
    mode = node.values.get("mode")
    if mode is not None and mode not in MERGE_MODES:
        node.error("mode", "UNKNOWN_VALUE", f"{str(mode)[:40]!r} is none of {', '.join(MERGE_MODES)}")


def _set(node: _Parameters) -> None:
    node.only("vars")
    written = node.required("vars")
    if written is None:
        return
    if not isinstance(written, dict):
        node.error("vars", "WRONG_TYPE", f"must be an object, not {type_name(written)}")
        return
    for name in written:
        if not _VARIABLE.match(name):
            message = f"{name[:40]!r} is no variable: letters, digits and `_`, not beginning with a digit"
            node.error(f"vars.{name[:80]}", "INVALID_NAME", message)


def _delay(node: _Parameters) -> None:
    node.only("duration", "until")
    duration, until = node.values.get("duration"), node.values.get("until")
    if (duration is None) == (until is None):
        node.error("", "REQUIRED", "a `delay` node has `duration` or `until`, one of them")
    if duration is not None and not is_template(duration) and duration_us(duration) is None:
        message = f"{str(duration)[:40]!r} is no duration; write 500ms, 1.5s, 30s, 5m, 2h or 3d, or seconds"
        node.error("duration", "INVALID_DURATION", message)
    if until is not None and (not isinstance(until, str) or not until):
        node.error("until", "WRONG_TYPE", f"must be an expression, as a text, not {type_name(until)}")


def _fail(node: _Parameters) -> None:
    node.only("type", "message", "details")
    node.kind("message", str, wanted="a text")
    error_type = node.kind("type", str, wanted="a text")
    if error_type is not None and len(error_type) > NAME_CHARACTERS_MAX:
        node.error("type", "TOO_LONG", f"has {len(error_type)} characters, more than {NAME_CHARACTERS_MAX}")


def _end(node: _Parameters) -> None:
    node.only("output")


def _noop(node: _Parameters) -> None:
    node.only()


def _http_request(node: _Parameters) -> None:
    node.only("method", "url", "headers", "query", "json", "body")
    node.required("url")
    node.kind("url", str, wanted="a text")
    method = node.kind("method", str, wanted="a text")
    if method and method.upper() not in HTTP_METHODS:
        node.error("method", "UNKNOWN_VALUE", f"{method[:40]!r} is none of {', '.join(sorted(HTTP_METHODS))}")
    node.kind("headers", dict, wanted="an object")
    node.kind("query", dict, wanted="an object")
    node.kind("body", str, wanted="a text; use `json` for a value")
    if node.values.get("json") is not None and node.values.get("body") is not None:
        node.error("body", "CONFLICT", "give `json` or `body`, not both")


def _transform(node: _Parameters) -> None:
    node.only("value")
    if "value" not in node.values:
        node.error("value", "REQUIRED", "a `transform` node needs `value`, which becomes its output")


def _log(node: _Parameters) -> None:
    node.only("message", "level", "data")
    if "message" not in node.values:
        node.error("message", "REQUIRED", "a `log` node needs `message`")
    level = node.kind("level", str, wanted="a text")
    if level and level.upper() not in LOG_LEVELS:
        node.error("level", "UNKNOWN_VALUE", f"{level[:40]!r} is none of DEBUG, INFO, WARN, ERROR")


_CHECKS: dict[str, Callable[[_Parameters], None]] = {
    "condition": _condition,
    "switch": _switch,
    "merge": _merge,
    "set": _set,
    "delay": _delay,
    "fail": _fail,
    "end": _end,
    "noop": _noop,
    "http.request": _http_request,
    "transform": _transform,
    "log": _log,
}
