"""Graphs of the campaign: chains, diamonds, fan-outs, retries, timers, cancels, each with what must come of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Plain = dict[str, Any]

CHAIN_LENGTH = 8
FAN_OUT = 50
_PATIENT = {"max_attempts": 4, "backoff": "FIXED", "base_delay": "150ms", "retryable_errors": ["FLAKY"]}


@dataclass(frozen=True, slots=True)
class Case:
    """One execution to start. `cancel_after_s`: a cancel is asked for so long after the start was acknowledged."""

    workflow: str
    input: Plain
    status: str
    output: Any = None
    required: frozenset[str] = frozenset()
    cancel_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A workflow and the cases that are started of it."""

    definition: Plain
    case: Callable[[random.Random], Case]
    weight: int = field(default=1)


def _node(node_id: str, kind: str, parameters: Plain | None = None, **more: Any) -> Plain:
    return {"id": node_id, "type": kind, "parameters": parameters or {}, **more}


def _edges(*pairs: tuple[str, str]) -> list[Plain]:
    return [{"source": source, "target": target} for source, target in pairs]


def chain() -> Graph:
    """Each node returns what the one before it returned."""
    ids = [f"n{number}" for number in range(CHAIN_LENGTH)]
    nodes = [_node(ids[0], "test.effect", {"value": "${ input.value }"})]
    nodes += [
        _node(after, "test.effect", {"value": f"${{ nodes.{before}.output }}"})
        for before, after in pairwise(ids)
    ]
    definition = {
        "name": "chain", "nodes": nodes, "edges": _edges(*pairwise(ids)),
        "output": {"value": f"${{ nodes.{ids[-1]}.output }}"},
    }  # fmt: skip

    def case(rng: random.Random) -> Case:
        value = rng.randrange(1_000_000)
        return Case("chain", {"value": value}, "success", {"value": value}, frozenset(ids))

    return Graph(definition, case, weight=3)


def diamond() -> Graph:
    """A condition takes one of two branches, a merge waits for both that run beside it."""
    nodes = [
        _node("top", "test.effect", {"value": "${ input.value }"}),
        _node("left", "test.effect", {"value": "${ nodes.top.output }"}),
        _node("right", "test.talkative", {"lines": 5}),
        _node("joined", "merge", {"mode": "BY_NODE"}, join="ALL_TAKEN"),
        _node("odd", "condition", {"condition": "nodes.left.output % 2 == 1"}),
        _node("is_odd", "test.effect", {"value": "odd"}),
        _node("is_even", "test.effect", {"value": "even"}),
        _node("last", "test.effect", {"value": "${ nodes.joined.output.left }"}),
    ]
    edges = _edges(
        ("top", "left"), ("top", "right"), ("left", "joined"), ("right", "joined"), ("joined", "odd"),
        ("is_odd", "last"), ("is_even", "last"),
    )  # fmt: skip
    edges += [
        {"source": "odd", "target": "is_odd", "port": "true"},
        {"source": "odd", "target": "is_even", "port": "false"},
    ]
    definition = {
        "name": "diamond", "nodes": nodes, "edges": edges, "output": {"value": "${ nodes.last.output }"},
    }  # fmt: skip

    def case(rng: random.Random) -> Case:
        value = rng.randrange(1_000_000)
        branch = "is_odd" if value % 2 else "is_even"
        required = frozenset({"top", "left", "right", "last", branch})
        return Case("diamond", {"value": value}, "success", {"value": value}, required)

    return Graph(definition, case, weight=3)


def fan_out() -> Graph:
    """Fifty nodes at once between two."""
    ids = [f"w{number}" for number in range(FAN_OUT)]
    nodes = [_node("first", "test.effect", {"value": "${ input.value }"})]
    nodes += [_node(worker, "test.effect", {"value": "${ nodes.first.output }"}) for worker in ids]
    nodes.append(_node("last", "merge", {"mode": "APPEND"}, join="ALL_TAKEN"))
    edges = _edges(*(("first", worker) for worker in ids), *((worker, "last") for worker in ids))
    definition = {
        "name": "fan-out",
        "nodes": nodes,
        "edges": edges,
        "output": {"all": "${ nodes.last.output }"},
    }

    def case(rng: random.Random) -> Case:
        value = rng.randrange(1_000_000)
        required = frozenset({"first", *ids})
        return Case("fan-out", {"value": value}, "success", {"all": [value] * FAN_OUT}, required)

    return Graph(definition, case, weight=2)


def retries() -> Graph:
    """A node that fails at first, one that always fails and is handled, and then the rest."""
    nodes = [
        _node("flaky", "test.flaky", {"failures": "${ input.failures }", "value": 7}, retry_policy=_PATIENT),
        _node("broken", "test.failing", {"type": "BROKEN"}, retry_policy={"max_attempts": 1}),
        _node("rescue", "test.effect", {"value": "rescued"}),
        _node("sum", "test.effect", {"value": "${ nodes.flaky.output }"}),
    ]
    edges = [
        {"source": "broken", "target": "rescue", "port": "error", "error_types": ["BROKEN"]},
        *_edges(("flaky", "sum"), ("rescue", "sum")),
    ]
    definition = {
        "name": "retries", "nodes": nodes, "edges": edges,
        "output": {"sum": "${ nodes.sum.output }", "how": "${ nodes.rescue.output }"},
    }  # fmt: skip

    def case(rng: random.Random) -> Case:
        # An attempt that is lost counts up the number that the handler looks at: one less failure, never more.
        required = frozenset({"flaky", "rescue", "sum"})
        failures = rng.randrange(0, 3)
        return Case("retries", {"failures": failures}, "success", {"sum": 7, "how": "rescued"}, required)

    return Graph(definition, case, weight=2)


def failures() -> Graph:
    """A failure that nobody handles, beside a branch that it cuts off."""
    nodes = [
        _node("first", "test.effect", {"value": 1}),
        _node("bad", "test.failing", {"type": "BROKEN"},
              retry_policy={"max_attempts": 2, "backoff": "FIXED", "base_delay": "100ms",
                            "retryable_errors": ["BROKEN"]}),
        _node("never", "test.effect", {"value": 2}),
        _node("beside", "delay", {"duration": "120s"}),
    ]  # fmt: skip
    definition = {
        "name": "failures", "nodes": nodes, "edges": _edges(("first", "bad"), ("bad", "never"), ("first", "beside")),
    }  # fmt: skip
    return Graph(definition, lambda _: Case("failures", {}, "failed", required=frozenset({"first", "bad"})))


def timers() -> Graph:
    """Delays between effects: asleep for most of its life."""
    nodes = [
        _node("before", "test.effect", {"value": "${ input.value }"}),
        _node("nap", "delay", {"duration": "${ input.nap }"}),
        _node("short", "delay", {"duration": "400ms"}),
        _node("after", "test.talkative", {"lines": 3}),
        _node("busy", "test.busy", {"seconds": 0.3}),
    ]
    definition = {
        "name": "timers", "nodes": nodes,
        "edges": _edges(("before", "nap"), ("nap", "busy"), ("before", "short"), ("short", "after"),
                        ("after", "busy")),
        "output": {"value": "${ nodes.before.output }"},
    }  # fmt: skip

    def case(rng: random.Random) -> Case:
        value = rng.randrange(1_000_000)
        nap = f"{rng.randrange(200, 9_000)}ms"
        required = frozenset({"before", "after", "busy"})
        return Case("timers", {"value": value, "nap": nap}, "success", {"value": value}, required)

    return Graph(definition, case, weight=3)


def long_tasks() -> Graph:
    """Tasks that take seconds, so that faults find them running."""
    nodes = [_node(f"busy{n}", "test.busy", {"seconds": "${ input.seconds }"}) for n in range(2)]
    nodes.append(_node("last", "test.effect", {"value": "done"}))
    definition = {
        "name": "long-tasks", "nodes": nodes, "edges": _edges(("busy0", "last"), ("busy1", "last")),
        "output": {"value": "${ nodes.last.output }"},
    }  # fmt: skip

    def case(rng: random.Random) -> Case:
        required = frozenset({"busy0", "busy1", "last"})
        return Case(
            "long-tasks", {"seconds": round(rng.uniform(0.5, 3.0), 2)}, "success", {"value": "done"}, required
        )

    return Graph(definition, case, weight=2)


def cancels() -> Graph:
    """Runs until somebody cancels it."""
    nodes = [
        _node("first", "test.effect", {"value": 1}),
        _node("running", "test.busy", {"seconds": 600}),
        _node("waiting", "delay", {"duration": "1200s"}),
        _node("never", "test.effect", {"value": 2}),
    ]
    definition = {
        "name": "cancels", "nodes": nodes, "timeout": "30m",
        "edges": _edges(("first", "running"), ("first", "waiting"), ("running", "never"), ("waiting", "never")),
    }  # fmt: skip

    def case(rng: random.Random) -> Case:
        return Case("cancels", {}, "cancelled", cancel_after_s=rng.uniform(0.0, 4.0))

    return Graph(definition, case, weight=2)


def timeouts() -> Graph:
    """Outlives its own timeout."""
    nodes = [_node("first", "test.effect", {"value": 1}), _node("waiting", "delay", {"duration": "1200s"})]
    definition = {"name": "timeouts", "timeout": "4s", "nodes": nodes, "edges": _edges(("first", "waiting"))}
    return Graph(definition, lambda _: Case("timeouts", {}, "timeout"))


GRAPHS = (chain, diamond, fan_out, retries, failures, timers, long_tasks, cancels, timeouts)


def cases(seed: int, count: int) -> tuple[list[Plain], list[Case]]:
    """Definitions to save, and `count` executions to start in this order; each graph occurs when there are 30."""
    rng = random.Random(seed)
    graphs = [make() for make in GRAPHS]
    once = [graph.case(rng) for graph in graphs]
    weights = [graph.weight for graph in graphs]
    more = [graph.case(rng) for graph in rng.choices(graphs, weights, k=max(0, count - len(once)))]
    started = [*once, *more][:count]
    rng.shuffle(started)
    return [{"timeout": "15m", **graph.definition} for graph in graphs], started
