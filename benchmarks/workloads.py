"""The workloads: shape, how many, how many at a time. The same for everybody who is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PAYLOAD = {"payload": "x" * 80}


@dataclass(frozen=True)
class Workload:
    """One row of the table. `counted`: nodes an execution counts for; `serial`: latency is measured, not rate."""

    name: str
    workflow: str
    executions: int
    concurrency: int
    counted: int
    serial: bool = False


WORKLOADS = {
    w.name: w
    for w in (
        Workload("W1", "single", 2000, 64, 1),
        Workload("W2", "sequence10", 400, 64, 10),
        Workload("W3", "fanout100", 40, 4, 100),
        Workload("W4", "single", 200, 1, 1, serial=True),
        Workload("W5", "sequence10", 50, 1, 10, serial=True),
        Workload("W6", "fanout2000", 1, 1, 2000, serial=True),
    )
}
WIDE = Workload("wide", "fanout2000", 2, 1, 2000)
NARROW = Workload("narrow", "fanout10", 400, 4, 10)


def definition(name: str) -> dict[str, Any]:
    """Our definition of a workflow, in the plain shape. Every node returns its input."""
    if name == "single":
        nodes, edges = [_echo("n0", "${ input }")], []
    elif name.startswith("sequence"):
        count = int(name.removeprefix("sequence"))
        nodes = [_echo("n0", "${ input }")]
        nodes += [_echo(f"n{i}", f"${{ nodes.n{i - 1}.output }}") for i in range(1, count)]
        edges = [{"source": f"n{i - 1}", "target": f"n{i}"} for i in range(1, count)]
    else:
        count = int(name.removeprefix("fanout"))
        nodes = [_echo("first", "${ input }")]
        nodes += [_echo(f"n{i}", "${ nodes.first.output }") for i in range(count)]
        nodes.append(_echo("join", "${ nodes.first.output }"))
        edges = [{"source": "first", "target": f"n{i}"} for i in range(count)]
        edges += [{"source": f"n{i}", "target": "join"} for i in range(count)]
    last = nodes[-1]["id"]
    return {
        "name": f"bench-{name}",
        "nodes": nodes,
        "edges": edges,
        "output": {"value": f"${{ nodes.{last}.output }}"},
    }


def _echo(node_id: str, value: str) -> dict[str, Any]:
    return {"id": node_id, "type": "bench.echo", "parameters": {"value": value}}
