"""YAML (and JSON, which is YAML) files of people, read into the plain shape.

YAML 1.1 turns `yes`, `on` and `2024-01-01` into bools and dates; a port called `true` or a key called `on` would
be lost. Here keys are always texts, the only bools are `true` and `false`, and there are no dates; the ports of
edges and cases are texts however they are written.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import yaml

from services.core.definition.json_values import DEFINITION_BYTES_MAX, NESTING_MAX


class InvalidYamlError(Exception):
    """The text is no YAML, or uses a part of it that is refused; the message says where."""


class _Loader(yaml.SafeLoader):
    """Safe loader with JSON's scalars; keys are texts, and aliases and merge keys are refused."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise InvalidYamlError(f"line {line}: aliases are not read; write it out")
        self._depth = getattr(self, "_depth", 0) + 1
        if self._depth > 2 * NESTING_MAX:
            raise InvalidYamlError(f"line {line}: nested deeper than {NESTING_MAX}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise InvalidYamlError(f"line {line}: a key is a text")
        key = key_node.value
        if key in result:
            raise InvalidYamlError(f"line {line}: the key `{key}` is there twice")
        if key == "port" and isinstance(value_node, yaml.ScalarNode):
            result[key] = value_node.value
        else:
            result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.yaml_implicit_resolvers = {}
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)\Z", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(node.value))


def read_yaml(text: str) -> Any:
    """The one document of a YAML or JSON text as plain JSON values. Raises `InvalidYamlError`."""
    if len(text) > DEFINITION_BYTES_MAX:
        raise InvalidYamlError(f"the text has {len(text)} characters, more than {DEFINITION_BYTES_MAX}")
    if text.lstrip().startswith(("{", "[", '"')):
        # YAML reads what is left of JSON, but not the surrogate pairs of its escapes.
        with suppress(ValueError, RecursionError):
            return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise InvalidYamlError(" ".join(str(error).split())) from None
    except (ValueError, RecursionError) as error:
        raise InvalidYamlError(f"a value cannot be read: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key is there twice; YAML's reader says where")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
