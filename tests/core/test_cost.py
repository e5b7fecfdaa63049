"""The cost of an event does not depend on the size of the graph; the end alone looks at every node, once."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from services.core import inputs
from services.core.machine import decide
from tests.support.machine import EPOCH, Machine, compile_plain


def _fan(width: int) -> Machine:
    ids = [f"n{i}" for i in range(width)]
    nodes: list[dict[str, Any]] = [{"id": "first", "type": "noop"}, *({"id": i, "type": "work"} for i in ids)]
    nodes.append({"id": "last", "type": "merge"})
    edges = [{"source": "first", "target": i} for i in ids] + [{"source": i, "target": "last"} for i in ids]
    machine = Machine(compile_plain({"name": "fan", "nodes": nodes, "edges": edges}))
    machine.decide(inputs.Begin())
    return machine


def _opcodes(machine: Machine, happened: inputs.Input) -> int:
    """Instructions of Python that one decision takes: exact, whatever else the machine does."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        decide(machine.state, happened, machine.now)
    finally:
        sys.settrace(before)
    return count


def _costs(width: int) -> list[int]:
    machine, middle = _fan(width), width // 2
    return [
        _opcodes(machine, happened)
        for happened in (
            inputs.TaskStarted(middle, 1, "r1", EPOCH),
            inputs.TaskSucceeded(middle, 1, b"1", "r1", EPOCH, EPOCH),
            inputs.TaskLost(middle + 1, 1, "r1"),
            inputs.TaskReturned(middle + 2, 1, "r1"),
            inputs.TaskSucceeded(middle, 1, b"1", "r1", EPOCH, EPOCH),
            inputs.TimersDue(),
        )
    ]


def test_an_input_costs_the_same_in_a_graph_of_any_size() -> None:
    assert _costs(1_000) == _costs(20)


def test_an_end_costs_a_node_once() -> None:
    small, large = (_opcodes(_fan(width), inputs.Cancel("", "user", True)) / width for width in (100, 1_000))
    assert large < 1.1 * small
