"""Every expression of a definition: syntax, names in sight, types as far as they are known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from services.core.definition.fields import EXPRESSION_BYTES_MAX
from services.core.definition.model import Node
from services.core.errors import ExpressionError
from services.core.expressions import ExpressionChecker
from services.core.references import NODE_FIELDS, Mentions, Path, mentions
from services.core.templates import expressions_in
from services.core.validation.reviewing import Review, did_you_mean
from services.core.validation.schemas import InputTypes, input_types

_BOOL = frozenset({"bool", "dyn"})
_INSTANT = frozenset({"timestamp", "string", "dyn"})
# Types of a result that have no JSON; an optional ends with `.orValue(…)`.
_NO_JSON = frozenset({"type", "optional_type"})
_EXECUTION = {
    "execution": "map",
    "execution.id": "string",
    "execution.workflow": "string",
    "execution.version": "int",
    "execution.mode": "string",
    "execution.started_at": "string",
    "execution.labels": "map",
}
_EXECUTION_FIELDS = frozenset(name.split(".")[1] for name in _EXECUTION if "." in name)
_MIXED_COMPARISON = re.compile(
    r"`(?:[=!]=|[<>]=?)` has no form for \((?:int, double|double, int)\)|`in` has no form"
)
_HAS = re.compile(r"\bhas\(\s*([A-Za-z0-9_.]+)\s*\)")
# Names of the language that belong to what this build does not run.
_NOT_YET = {
    "secrets": "secrets are",
    "item": "`item` (of `for_each`) is",
    "index": "`index` (of `for_each`) is",
    "output": "`output` (of `repeat` and compensations) is",
    "error": "`error` (of `repeat`) is",
    "idempotency_key": "`idempotency_key` (of compensations) is",
}


@dataclass(frozen=True, slots=True)
class _Site:
    """Where an expression stands: seen from node `viewer` (None: after all), `own` when that node is in sight."""

    path: str
    viewer: int | None
    own: bool = False
    wanted: frozenset[str] | None = None


def check_texts(found: Review, checker: ExpressionChecker) -> None:
    """Checks every expression of the definition; a text that stands in many places is checked once."""
    texts = _Texts(found, checker)
    for site, text in _sites(found):
        if isinstance(text, ExpressionError):
            found.error(site.path, "INVALID_TEMPLATE", str(text))
        else:
            texts.check(site, text)


def _sites(found: Review) -> Iterator[tuple[_Site, str | ExpressionError]]:
    definition = found.definition
    for index, node in enumerate(definition.nodes):
        path = f"nodes[{index}]"
        if node.when:
            yield _Site(f"{path}.when", index, wanted=_BOOL), node.when
        yield from _parameter_sites(node, index, f"{path}.parameters")
    for index, edge in enumerate(definition.edges):
        source = found.index_of.get(edge.source)
        if edge.when and source is not None:
            yield _Site(f"edges[{index}].when", source, own=True, wanted=_BOOL), edge.when
    for path, text in expressions_in(definition.output, "output"):
        yield _Site(path, None), text


def _parameter_sites(node: Node, index: int, path: str) -> Iterator[tuple[_Site, str | ExpressionError]]:
    """Expressions of a node's parameters. What has a wrong type was told by `check_parameters`."""
    parameters = node.parameters
    if node.type in ("condition", "switch", "delay") and isinstance(parameters, dict):
        plain: list[tuple[str, Any, frozenset[str]]] = []
        if node.type == "condition":
            plain.append(("condition", parameters.get("condition"), _BOOL))
        elif node.type == "delay":
            plain.append(("until", parameters.get("until"), _INSTANT))
        else:
            cases = parameters.get("cases")
            for number, case in enumerate(cases if isinstance(cases, list) else []):
                if isinstance(case, dict):
                    plain.append((f"cases[{number}].when", case.get("when"), _BOOL))
        for field, text, wanted in plain:
            if isinstance(text, str) and text:
                yield _Site(f"{path}.{field}", index, wanted=wanted), text
        parameters = (
            {"duration": parameters["duration"]}
            if node.type == "delay" and "duration" in parameters
            else None
        )
    for at, text in expressions_in(parameters, path):
        yield _Site(at, index), text


class _Texts:
    """Checks texts against what is in sight; remembers each text's mentions and type."""

    def __init__(self, found: Review, checker: ExpressionChecker) -> None:
        self._found = found
        self._checker = checker
        self._input = input_types(found.definition.input_schema)
        self._types = {"nodes": "dyn", "vars": "map", "now": "string", **_EXECUTION, **self._input.types}
        self._written = set(found.definition.vars)
        for node in found.definition.nodes:
            if node.type == "set" and isinstance(node.parameters, dict):
                written = node.parameters.get("vars")
                self._written.update(written if isinstance(written, dict) else ())
        self._known: dict[str, tuple[Mentions, str | ExpressionError]] = {}

    def check(self, site: _Site, source: str) -> None:
        """Checks one text where it stands."""
        if len(source.encode()) > EXPRESSION_BYTES_MAX:
            message = f"an expression has at most {EXPRESSION_BYTES_MAX} bytes"
            self._found.error(site.path, "TOO_LONG", message)
            return
        known = self._known.get(source)
        if known is None:
            known = self._known[source] = self._look(source)
        seen, result = known
        if self._names_are_wrong(site, seen):
            return
        if isinstance(result, ExpressionError):
            self._refuse(site, source, seen, result)
        elif result in _NO_JSON:
            message = f"`{source}` is {result}, which is no JSON value; an optional ends with `.orValue(…)`"
            self._found.error(site.path, "EXPRESSION_TYPE", message)
        elif site.wanted is not None and result not in site.wanted:
            wanted = "a bool" if site.wanted is _BOOL else "a timestamp"
            message = f"`{source}` is {_article(result)}, not {wanted}"
            self._found.error(site.path, "EXPRESSION_TYPE", message)

    def _look(self, source: str) -> tuple[Mentions, str | ExpressionError]:
        seen = mentions(source)
        # The checker takes `has(a.b)` for `a.b` when that name is declared; under has() it is left to its object.
        tested = set(_HAS.findall(source))
        types = {name: kind for name, kind in self._types.items() if name not in tested}
        try:
            return seen, self._checker.check(source, types)
        except ExpressionError as error:
            if "input" not in seen.base or not _MIXED_COMPARISON.search(str(error)):
                return seen, error
            first = error
        # Types that are declared compare with their like only, values with all numbers; so integers are left open.
        try:
            return seen, self._checker.check(
                source, {n: "dyn" if t == "int" else t for n, t in types.items()}
            )
        except ExpressionError:
            return seen, first

    def _refuse(self, site: _Site, source: str, seen: Mentions, error: ExpressionError) -> None:
        for root in sorted(seen.roots() & _NOT_YET.keys()):
            if f"'{root}" in str(error):
                message = f"{_NOT_YET[root]} not run by this build"
                self._found.error(site.path, "NOT_SUPPORTED", message)
                return
        # Where an expression alone belongs, `${ }` around it is the likeliest slip.
        wrapped = site.wanted is not None and "${" in source
        hint = "; it is plain CEL, written without `${ }`" if wrapped else ""
        self._found.error(site.path, "INVALID_EXPRESSION", str(error) + hint)

    def _names_are_wrong(self, site: _Site, seen: Mentions) -> bool:
        before = len(self._found.problems)
        if seen.whole_nodes:
            message = "`nodes` as a whole is no value; write `nodes.<id>.output`"
            self._found.error(site.path, "UNKNOWN_NODE", message)
        for node, fields in seen.nodes.items():
            self._check_node(site, node, fields)
        for path in seen.paths:
            if len(path.parts) > 1:
                self._check_path(site, path, self._input)
        return any(problem.reason != "UNKNOWN_VARIABLE" for problem in self._found.problems[before:])

    def _check_node(self, site: _Site, node: str, fields: frozenset[str]) -> None:
        found, index = self._found, self._found.index_of.get(node)
        if index is None:
            found.error(
                site.path, "UNKNOWN_NODE", f"there is no node `{node}`{did_you_mean(node, found.index_of)}"
            )
            return
        if site.viewer is not None and not (site.own and index == site.viewer):
            if index == site.viewer:
                found.error(
                    site.path, "NOT_UPSTREAM", f"`{node}` is this node itself, whose output is not known yet"
                )
            elif not found.is_upstream(index, site.viewer):
                message = f"node `{node}` is not upstream of `{found.definition.nodes[site.viewer].id}`; add an edge"
                found.error(site.path, "NOT_UPSTREAM", message)
        for name in sorted(fields - NODE_FIELDS - {""}):
            message = f"`nodes.{node}` has no `{name}`, only output, status, error and attempts"
            found.error(site.path, "UNKNOWN_FIELD", message + did_you_mean(name, NODE_FIELDS))

    def _check_path(self, site: _Site, path: Path, input_known: InputTypes) -> None:
        root, name = path.parts[0], path.parts[1]
        if root == "input":
            unknown = input_known.unknown_key(path.parts)
            if unknown:
                message = f"`{path}`: the input schema allows no `{unknown}`"
                self._found.error(site.path, "UNKNOWN_INPUT", message)
        elif root == "execution" and name not in _EXECUTION_FIELDS:
            there = ", ".join(sorted(_EXECUTION_FIELDS))
            self._found.error(site.path, "UNKNOWN_FIELD", f"`{path}`: there is no `{name}`, only {there}")
        elif root == "vars" and name not in self._written:
            hint = did_you_mean(name, sorted(self._written))
            message = f"`{path}`: no `set` node and no first value writes `{name}`{hint}"
            self._found.warning(site.path, "UNKNOWN_VARIABLE", message)


def _article(type_name: str) -> str:
    return f"an {type_name}" if type_name[:1] in "aeiou" else f"a {type_name}"
