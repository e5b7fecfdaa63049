"""Every node type, every join, both strategies, on real processes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tests.support.client import Client, node_statuses, status_of

Plain = dict[str, Any]


def _node(node_id: str, kind: str = "noop", parameters: Plain | None = None, **more: Any) -> Plain:
    return {"id": node_id, "type": kind, "parameters": parameters or {}, **more}


def _edges(*pairs: tuple[str, ...]) -> list[Plain]:
    """(source, target) or (source, target, port)."""
    return [dict(zip(("source", "target", "port"), pair, strict=False)) for pair in pairs]


async def _run(
    client: Client, definition: Plain, input: Plain | None = None
) -> tuple[str, Plain, dict[str, str]]:
    ended = await client.run(definition, input or {})
    return status_of(ended), MessageToDict(ended.output), await node_statuses(client, ended.id)


async def test_nodes_decided_in_the_scheduler(client: Client) -> None:
    definition = {
        "name": "local-nodes",
        "vars": {"greeting": "hello"},
        "nodes": [
            _node("begin"),
            _node("big", "condition", {"condition": "input.n > 10"}),
            _node("where", "switch", {
                "cases": [{"port": "eu", "when": "input.region == 'EU'"}], "default": "other",
            }),
            _node("name", "set", {"vars": {"who": "${ input.who }"}}),
            _node("nap", "delay", {"duration": "50ms"}),
            _node("past", "delay", {"until": "timestamp('2020-01-01T00:00:00Z')"}),
            _node("eu"), _node("other"), _node("small"),
            _node("all", "merge", {"mode": "BY_NODE"}),
        ],
        "edges": _edges(
            ("begin", "big"), ("begin", "where"), ("begin", "name"), ("name", "nap"), ("begin", "past"),
            ("where", "eu", "eu"), ("where", "other", "other"), ("big", "all", "true"),
            ("big", "small", "false"), ("eu", "all"), ("nap", "all"), ("past", "all"),
        ),
        "output": {"text": "${ vars.greeting + ' ' + vars.who }", "big": "${ nodes.all.output.big }"},
    }  # fmt: skip
    status, output, nodes = await _run(client, definition, {"n": 11, "region": "EU", "who": "you"})
    assert (status, output) == ("SUCCESS", {"text": "hello you", "big": True})
    assert {name for name, at in nodes.items() if at == "SKIPPED"} == {"other", "small"}


async def test_an_end_node_ends_at_once(client: Client) -> None:
    definition = {
        "name": "end-node",
        "nodes": [
            _node("done", "end", {"output": {"how": "early"}}),
            _node("slow", "delay", {"duration": "60s"}),
        ],
        "edges": [],
    }
    status, output, nodes = await _run(client, definition)
    assert (status, output) == ("SUCCESS", {"how": "early"})
    assert nodes["slow"] in {"CANCELLED", "PENDING"}


async def test_a_fail_node_fails_with_its_type(client: Client) -> None:
    definition = {
        "name": "fail-node",
        "nodes": [_node("no", "fail", {"type": "NOT_TODAY", "message": "because ${ input.why }"})],
        "edges": [],
    }
    ended = await client.run(definition, {"why": "reasons"})
    assert status_of(ended) == "FAILED"
    assert "because reasons" in ended.error.message
    assert (await client.node_runs(ended.id))["no"].error.type == "NOT_TODAY"


async def test_handlers_that_every_runner_brings(client: Client, shop: str) -> None:
    definition = {
        "name": "built-in",
        "nodes": [
            _node("ask", "http.request", {"method": "GET", "url": "${ input.shop }/stock/a-1"}),
            _node("shape", "transform", {"value": {"there": "${ nodes.ask.output.body.available }"}}),
            _node("say", "log", {"message": "stock ${ nodes.ask.output.status }", "level": "WARN",
                                 "data": {"n": 1}}),
        ],
        "edges": _edges(("ask", "shape"), ("shape", "say")),
        "output": "${ nodes.shape.output }",
    }  # fmt: skip
    status, output, _ = await _run(client, definition, {"shop": shop})
    assert (status, output) == ("SUCCESS", {"there": True})


@pytest.mark.parametrize(
    ("join", "more", "expected"),
    [
        ("ALL_DONE", {}, "SUCCESS"),
        ("ALL_TAKEN", {}, "SKIPPED"),
        ("ANY", {}, "SUCCESS"),
        ("QUORUM", {"quorum": 2}, "SUCCESS"),
        ("QUORUM", {"quorum": 3}, "SKIPPED"),
    ],
)
async def test_joins(client: Client, join: str, more: Plain, expected: str) -> None:
    """Three edges into one node: two TAKEN, one DEAD."""
    definition = {
        "name": f"join-{join.lower()}-{more.get('quorum', 0)}",
        "nodes": [
            _node("a", "test.effect", {"value": 1}), _node("b", "test.effect", {"value": 2}),
            _node("c", when="false"), _node("joined", join=join, **more), _node("after"),
        ],
        "edges": _edges(("a", "joined"), ("b", "joined"), ("c", "joined"), ("joined", "after")),
    }  # fmt: skip
    status, _, nodes = await _run(client, definition)
    assert (status, nodes["joined"], nodes["after"]) == ("SUCCESS", expected, expected)


async def test_a_race_cancels_the_others(client: Client) -> None:
    definition = {
        "name": "race",
        "nodes": [
            _node("fast", "test.effect", {"value": "fast"}),
            _node("slow", "test.busy", {"seconds": 60}),
            _node("first", "merge", {"mode": "FIRST"}, join="ANY", cancel_others=True),
        ],
        "edges": _edges(("fast", "first"), ("slow", "first")),
        "output": {"winner": "${ nodes.first.output }"},
    }
    status, output, nodes = await _run(client, definition)
    assert (status, output, nodes["slow"]) == ("SUCCESS", {"winner": "fast"}, "CANCELLED")


async def test_sequential_runs_one_node_at_a_time(client: Client) -> None:
    names = ["one", "two", "three", "four"]
    definition = {
        "name": "sequential", "strategy": "SEQUENTIAL", "edges": [],
        "nodes": [_node(name, "test.busy", {"seconds": 0.05}) for name in names],
    }  # fmt: skip
    ended = await client.run(definition, {})
    runs = await client.node_runs(ended.id)
    spans = sorted(
        (run.started_at.ToNanoseconds(), run.completed_at.ToNanoseconds()) for run in runs.values()
    )
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert sorted(names, key=lambda name: runs[name].started_at.ToNanoseconds()) == names


async def test_a_fan_out_runs_beside_itself_and_merges_in_order(client: Client) -> None:
    workers = [f"w{number}" for number in range(100)]
    definition = {
        "name": "wide",
        "nodes": [_node("first"), *(_node(w, "test.effect", {"value": w}) for w in workers),
                  _node("last", "merge", {"mode": "APPEND"}, join="ALL_TAKEN")],
        "edges": _edges(*(("first", w) for w in workers), *((w, "last") for w in workers)),
        "output": {"all": "${ nodes.last.output }"},
    }  # fmt: skip
    status, output, _ = await _run(client, definition)
    assert (status, output) == ("SUCCESS", {"all": workers})
