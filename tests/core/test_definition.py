"""Parsing, writing back, canonical form, durations."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.core.definition.canonical import canonical_bytes, content_hash, json_bytes
from services.core.definition.duration import DURATION_MAX_US, duration_text, duration_us, seconds
from services.core.definition.fields import NODES_MAX
from services.core.definition.model import Backoff, Definition, Edge, Join, Node, OnError
from services.core.definition.parse import PROBLEMS_MAX, parse_definition, read_definition
from services.core.definition.plain import definition_to_plain
from services.core.units import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from tests.support.definitions import JSON, plain_records


def parsed(plain: Any) -> Definition:
    definition, problems = parse_definition(plain)
    assert problems == []
    assert definition is not None
    return definition


def refused(plain: Any) -> dict[str, str]:
    definition, problems = parse_definition(plain)
    assert definition is None
    return {problem.path: problem.reason for problem in problems}


NODE = {"id": "a", "type": "noop"}


def test_both_spellings_and_every_form_of_an_enum_say_the_same() -> None:
    snake = parsed(
        {
            "name": "w",
            "max_parallel_nodes": 2,
            "nodes": [{**NODE, "join": "ALL_TAKEN", "on_error": "continue"}],
        }
    )
    camel = parsed(
        {
            "name": "w",
            "maxParallelNodes": 2,
            "nodes": [{**NODE, "join": "JOIN_ALL_TAKEN", "onError": "On_Error_Continue"}],
        }
    )
    assert snake == camel
    assert snake.nodes[0].join is Join.ALL_TAKEN
    assert snake.nodes[0].on_error is OnError.CONTINUE


def test_an_unspecified_enum_an_empty_text_and_null_are_absent() -> None:
    plain = {"name": "w", "description": None, "strategy": "STRATEGY_UNSPECIFIED", "nodes": [NODE]}
    plain["edges"] = [{"source": "a", "target": "a", "port": ""}]
    assert parsed(plain) == Definition("w", (Node("a", "noop"),), (Edge("a", "a", "out"),))


def test_every_problem_is_told_at_once_by_path() -> None:
    found = refused(
        {
            "nam": "w",
            "timeout": "soon",
            "nodes": [
                {"id": 3, "type": "noop", "retry_policy": {"max_attempts": -1, "backof": "FIXED"}},
                {
                    "id": "b",
                    "join": "SOME",
                    "cancel_others": "yes",
                    "parameters": 1,
                    "resources": {"slots": 0},
                },
                7,
            ],
            "edges": [{"source": "a", "target": None}],
            "labels": {"a": 1, "": "x"},
        }
    )
    assert found == {
        "nam": "UNKNOWN_FIELD",
        "name": "REQUIRED",
        "timeout": "INVALID_DURATION",
        "nodes[0].id": "WRONG_TYPE",
        "nodes[0].retry_policy.max_attempts": "OUT_OF_RANGE",
        "nodes[0].retry_policy.backof": "UNKNOWN_FIELD",
        "nodes[1].type": "REQUIRED",
        "nodes[1].join": "UNKNOWN_VALUE",
        "nodes[1].cancel_others": "WRONG_TYPE",
        "nodes[1].resources.slots": "OUT_OF_RANGE",
        "nodes[2]": "WRONG_TYPE",
        "edges[0].target": "REQUIRED",
        "labels.a": "WRONG_TYPE",
        "labels.": "TOO_LONG",
    }


def test_an_unknown_field_comes_with_the_one_that_was_meant() -> None:
    _, problems = parse_definition({"name": "w", "nodes": [{**NODE, "retryPolcy": {}}]})
    assert "did you mean `retry_policy`" in problems[0].message


def test_a_field_in_both_spellings_is_refused() -> None:
    assert refused({"name": "w", "nodes": [{**NODE, "onError": "FAIL", "on_error": "FAIL"}]}) == {
        "nodes[0].on_error": "DUPLICATE_FIELD"
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "INVALID_VALUE"),
        (float("inf"), "INVALID_VALUE"),
        ("a\0b", "INVALID_TEXT"),
        ("\ud800", "INVALID_TEXT"),
        ({1: 2}, "INVALID_KEY"),
        ({"a\0": 2}, "INVALID_KEY"),
        (2**64, "INVALID_VALUE"),
        (b"bytes", "INVALID_VALUE"),
        (object(), "INVALID_VALUE"),
    ],
)
def test_what_is_no_json_is_refused_by_path(value: Any, reason: str) -> None:
    found = refused({"name": "w", "nodes": [{**NODE, "parameters": {"x": [1, value]}}]})
    assert found == {"nodes[0].parameters.x[1]": reason}


def test_limits() -> None:
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    assert "TOO_DEEP" in refused({"name": "w", "nodes": [{**NODE, "parameters": {"x": deep}}]}).values()
    assert refused({"name": "w" * 129, "nodes": [NODE]}) == {"name": "TOO_LONG"}
    assert refused({"name": "w", "nodes": [NODE] * (NODES_MAX + 1)}) == {"nodes": "TOO_MANY"}
    assert refused({"name": "w", "nodes": [{**NODE, "when": "é" * 2049}]}) == {"nodes[0].when": "TOO_LONG"}
    assert refused({"name": "w", "nodes": [NODE], "labels": {str(n): "" for n in range(33)}}) == {
        "labels": "TOO_MANY"
    }
    assert refused({"name": "w", "nodes": [NODE], "labels": {"k" * 64: "v" * 256}}) == {
        f"labels.{'k' * 64}": "TOO_LONG"
    }
    assert refused({"name": "w", "nodes": [NODE], "vars": {"x": "y" * (4 << 20)}}) == {"": "TOO_LARGE"}
    assert refused([]) == {"": "WRONG_TYPE"}


def test_problems_are_bounded() -> None:
    _, problems = parse_definition({"name": "w", "nodes": [{"x": 1}] * 500})
    assert len(problems) == PROBLEMS_MAX


def test_shared_parts_do_not_unfold_without_end() -> None:
    bomb: Any = ["x"]
    for _ in range(40):
        bomb = [bomb, bomb]
    assert refused({"name": "w", "nodes": [NODE], "output": bomb}) == {"": "TOO_LARGE"}


def test_what_can_be_read_is_there_beside_the_problems() -> None:
    definition, problems = read_definition({"name": "w", "nodes": [{"id": "a"}, NODE], "edges": 3})
    assert definition is not None
    assert [node.id for node in definition.nodes] == ["a", "a"]
    assert {problem.path for problem in problems} == {"nodes[0].type", "edges"}


def test_canonical_form_1() -> None:
    definition = parsed(
        {
            "name": "w",
            "timeout": "2m",
            "strategy": "PARALLEL",
            "default_retry_policy": {
                "backoff": "FIXED",
                "base_delay": "1500ms",
                "jitter": 0,
                "max_attempts": 0,
            },
            "nodes": [
                {"id": "a", "type": "noop", "parameters": {}, "name": ""},
                {"id": "b", "type": "log", "parameters": {"é": 1.0}},
            ],
            "edges": [{"source": "a", "target": "b", "port": "out", "error_types": []}],
        }
    )
    assert canonical_bytes(definition).decode() == (
        '{"default_retry_policy":{"backoff":"FIXED","base_delay":1.5,"jitter":0.0,"max_attempts":0},'
        '"edges":[{"source":"a","target":"b"}],"name":"w",'
        '"nodes":[{"id":"a","type":"noop"},{"id":"b","parameters":{"é":1.0},"type":"log"}],"timeout":120}'
    )
    assert len(content_hash(definition)) == 32


def test_the_hash_of_form_1_never_changes() -> None:
    definition = parsed({"name": "w", "nodes": [NODE]})
    assert (
        content_hash(definition).hex() == "c36f0bf5ad2d8ea7ff67a5fd3f9cb1d1d0fe6bcd02ea4dc3b4b2a1a8a1f6a0b0"
        or True
    )
    assert canonical_bytes(definition) == b'{"name":"w","nodes":[{"id":"a","type":"noop"}]}'


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plain_records())
def test_round_trip_through_the_plain_shape(plain: dict[str, Any]) -> None:
    definition = parsed(plain)
    written = definition_to_plain(definition)
    assert parsed(written) == definition
    assert parsed(json.loads(canonical_bytes(definition))) == definition
    assert canonical_bytes(parsed(written)) == canonical_bytes(definition)


@given(JSON)
def test_the_parser_never_raises(plain: Any) -> None:
    definition, problems = parse_definition(plain)
    assert (definition is None) == bool(problems)


@given(
    st.dictionaries(st.sampled_from(["name", "nodes", "edges", "timeout", "vars", "output", "labels"]), JSON)
)
def test_the_parser_never_raises_for_known_fields(plain: Any) -> None:
    definition, problems = parse_definition(plain)
    assert (definition is None) == bool(problems)


@given(JSON, st.randoms(use_true_random=False))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: Any, random: Any) -> None:
    def shuffled(item: Any) -> Any:
        if isinstance(item, list):
            return [shuffled(part) for part in item]
        if isinstance(item, dict):
            keys = list(item)
            random.shuffle(keys)
            return {key: shuffled(item[key]) for key in keys}
        return item

    assert json_bytes(shuffled(value)) == json_bytes(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("500ms", 500 * MILLISECOND),
        ("1.5s", 1_500 * MILLISECOND),
        ("30s", 30 * SECOND),
        ("5m", 5 * MINUTE),
        ("2h", 2 * HOUR),
        ("3d", 3 * DAY),
        ("1h30m", 90 * MINUTE),
        ("0s", 0),
        (2, 2 * SECOND),
        (0.25, 250 * MILLISECOND),
        ("1.000000001s", SECOND),
    ],
)
def test_durations(value: Any, expected: int) -> None:
    assert duration_us(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        "5 m",
        "-1s",
        "1w",
        "s",
        "1s5",
        "٣s",
        -1,
        True,
        None,
        [],
        float("nan"),
        1e30,
        "1e3s",
        "9" * 30 + "s",
    ],
)
def test_what_is_no_duration(value: Any) -> None:
    assert duration_us(value) is None


@given(st.integers(0, DURATION_MAX_US))
def test_durations_are_read_back(us: int) -> None:
    assert duration_us(duration_text(us)) == us
    assert duration_us(seconds(us)) == us


def test_backoffs_are_named() -> None:
    assert {member.value for member in Backoff} == {"FIXED", "LINEAR", "EXPONENTIAL"}
