"""Random workflows for property tests: any graph, joins, expressions, policies and timeouts that validation lets pass."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

PORTS = {"condition": ["true", "false"], "switch": ["one", "two", "three"], "end": []}
JOINS = ["ALL_DONE", "ALL_DONE", "ALL_TAKEN", "ANY", "QUORUM"]
LOCAL_TYPES = ["noop", "condition", "switch", "merge", "set", "delay"]
TYPES = ["work"] * 30 + LOCAL_TYPES * 3 + ["fail", "end"]
ERROR_TYPES = ["NETWORK", "VALIDATION", "TIMEOUT", "FRAUD"]


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    """Plain shape of a workflow of one to nine nodes; the definition's order is not the topological one."""
    count = draw(st.integers(1, 9))
    ids = [f"n{i}" for i in range(count)]
    types = [draw(st.sampled_from(TYPES)) for _ in ids]
    # Whatever lies on a path may be mentioned; upstream[j] grows with the edges into j.
    upstream: list[set[int]] = [set() for _ in ids]
    edges: list[dict[str, Any]] = []
    for target in range(1, count):
        for source in draw(st.lists(st.integers(0, target - 1), max_size=3)):
            edges.append(_edge(draw, ids, types, source, target, upstream))
            upstream[target] |= {source} | upstream[source]
    incoming = [sum(edge["target"] == node for edge in edges) for node in ids]
    nodes = [
        _node(draw, ids[i], types[i], [ids[j] for j in sorted(upstream[i])], incoming[i])
        for i in range(count)
    ]
    return {
        "name": "random",
        "nodes": draw(st.permutations(nodes)),
        "edges": edges,
        "vars": {"v": 1},
        "strategy": draw(st.sampled_from(["PARALLEL"] * 3 + ["SEQUENTIAL"])),
        "max_parallel_nodes": draw(st.sampled_from([0, 0, 1, 2])),
        "timeout": draw(st.sampled_from(["20s"] + ["1h"] * 4)),
        "output": draw(st.sampled_from([None, {"v": "${ vars.v }"}] * 4 + ["${ input.no }"])),
    }


def _edge(
    draw: st.DrawFn, ids: list[str], types: list[str], source: int, target: int, upstream: list[set[int]]
) -> dict[str, Any]:
    ports = PORTS.get(types[source], ["out"]) * 7 + ["error", "error", "timeout"]
    edge: dict[str, Any] = {
        "source": ids[source],
        "target": ids[target],
        "port": draw(st.sampled_from(ports)),
    }
    if draw(st.integers(0, 5)) == 3:
        edge["when"] = _condition(draw, [ids[source], *(ids[i] for i in sorted(upstream[source]))])
    if edge["port"] == "error" and draw(st.booleans()):
        edge["error_types"] = draw(
            st.lists(st.sampled_from(ERROR_TYPES), min_size=1, max_size=2, unique=True)
        )
    return edge


def _condition(draw: st.DrawFn, seen: list[str]) -> str:
    if draw(st.integers(0, 39)) == 7:
        return draw(st.sampled_from(["input.no", "input.n"]))  # an error, and no bool
    choices = ["true", "false", "input.n > 2", "vars.v > 1"]
    for node in seen:
        choices += [f"nodes.{node}.status == 'success'", f"nodes.{node}.output == 1"]
    return draw(st.sampled_from(choices))


def _node(draw: st.DrawFn, name: str, kind: str, seen: list[str], incoming: int) -> dict[str, Any]:
    node: dict[str, Any] = {"id": name, "type": kind}
    if draw(st.integers(0, 7)) == 3:
        node["when"] = _condition(draw, seen)
    join = draw(st.sampled_from(JOINS))
    if incoming and join != "ALL_DONE":
        node["join"] = join
        if join == "QUORUM":
            node["quorum"] = draw(st.integers(1, incoming))
    if incoming and draw(st.integers(0, 2)) == 1:
        node["cancel_others"] = True
    if draw(st.booleans()):
        node["on_error"] = "CONTINUE"
    parameters = _parameters(draw, kind, seen)
    if parameters is not None:
        node["parameters"] = parameters
    if kind == "work":
        node["retry_policy"] = {
            "max_attempts": draw(st.sampled_from([3, 2, 1, 0])),
            "backoff": draw(st.sampled_from(["FIXED", "LINEAR", "EXPONENTIAL"])),
            "base_delay": draw(st.sampled_from(["1s", "3s"])),
            "jitter": draw(st.sampled_from([0, 0.5])),
        }
        node["timeouts"] = draw(
            st.dictionaries(
                st.sampled_from(["schedule_to_start", "start_to_close", "schedule_to_close"]),
                st.sampled_from(["2s", "7s", "30s"]),
                max_size=2,
            )
        )
    return node


def _parameters(draw: st.DrawFn, kind: str, seen: list[str]) -> dict[str, Any] | None:
    match kind:
        case "condition":
            return {"condition": _condition(draw, seen)}
        case "switch":
            cases = [{"port": port, "when": _condition(draw, seen)} for port in ("one", "two")]
            return {"cases": cases, "default": "three"}
        case "merge":
            return {"mode": draw(st.sampled_from(["BY_NODE", "APPEND", "FIRST"]))}
        case "set":
            return {"vars": {"v": draw(st.sampled_from(["${ vars.v + 1 }"] * 5 + [7, "${ input.no }"]))}}
        case "delay":
            return {"duration": draw(st.sampled_from(["0s"] + ["3s", "20s"] * 3 + ["${ input.no }"]))}
        case "fail":
            return {"type": draw(st.sampled_from(ERROR_TYPES)), "message": "n is ${ input.n }"}
        case "end":
            return draw(st.sampled_from([None, {"output": "${ vars.v }"}]))
        case "work":
            texts = ["${ vars.v }", "${ input }", "${ now }", "${ execution.id }"]
            texts += [f"${{ nodes.{node}.output }}" for node in seen]
            return draw(st.sampled_from([None, {"x": draw(st.sampled_from(texts))}]))
        case _:
            return None
