"""YAML with JSON's scalars."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapters.yaml_files import InvalidYamlError, read_yaml
from tests.support.definitions import JSON


def test_scalars_are_those_of_json() -> None:
    text = "a: yes\nb: true\nc: on\nd: 2020-01-01\ne: 012\nf: 1.5\ng: 1e3\nh:\ni: ~\nj: 'true'\nk: 0x1f\nl: -3\nm: .nan\nn: 1_000"
    assert read_yaml(text) == {
        "a": "yes",
        "b": True,
        "c": "on",
        "d": "2020-01-01",
        "e": "012",
        "f": 1.5,
        "g": 1000.0,
        "h": None,
        "i": None,
        "j": "true",
        "k": "0x1f",
        "l": -3,
        "m": ".nan",
        "n": "1_000",
    }


def test_keys_and_ports_are_texts() -> None:
    assert read_yaml("on: 1\ntrue: 2\n3: 4") == {"on": 1, "true": 2, "3": 4}
    assert read_yaml("{source: a, target: b, port: true}") == {"source": "a", "target": "b", "port": "true"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x", "line 2: aliases"),
        ("a: 1\na: 2", "line 2: the key `a` is there twice"),
        ("[", "flow node"),
        ("a: !!python/object:os.system x", "constructor"),
        ("[" * 1000, "nested deeper"),
        ("a: 1\n---\nb: 2", "single document"),
        ("? [a]\n: b", "a key is a text"),
        ("<<: {a: 1}\n<<: {b: 1}", "twice"),
        ("a: \x01", "not allowed"),
        (" " * (5 << 20), "more than"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidYamlError, match=said):
        read_yaml(text)


@given(JSON)
def test_json_is_yaml(value: Any) -> None:
    assert read_yaml(json.dumps(value)) == value


@given(st.text(max_size=60))
def test_anything_is_read_or_refused(text: str) -> None:
    with suppress(InvalidYamlError):
        read_yaml(text)
