"""The state diagrams of the docs, made from the tables of transitions: Mermaid, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from services.core.states import (
    ACTIVE,
    EXECUTION_TRANSITIONS,
    NODE_TRANSITIONS,
    OPEN,
    ExecutionStatus,
    NodeStatus,
)

S = TypeVar("S", bound=IntEnum)


def states_page() -> str:
    """The whole page `docs/STATES.md`."""
    return "\n".join(
        [
            "# States",
            "",
            "Made from the tables in `services/core/states.py`; `REWRITE=1 pytest tests/core/test_states.py` renews it.",
            "Whatever is not drawn is refused and changes nothing.",
            "",
            "## Execution",
            "",
            *_mermaid(EXECUTION_TRANSITIONS, ExecutionStatus.PENDING),
            "",
            *_table(EXECUTION_TRANSITIONS),
            "",
            "## Node",
            "",
            f"Open: {_names(OPEN)}. Active, that is counted by `max_parallel_nodes`: {_names(ACTIVE)}.",
            "",
            *_mermaid(NODE_TRANSITIONS, NodeStatus.PENDING),
            "",
            *_table(NODE_TRANSITIONS),
            "",
        ]
    )


def _mermaid(transitions: Mapping[S, frozenset[S]], first: S) -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.name}"]
    for source, targets in transitions.items():
        lines.extend(f"    {source.name} --> {target.name}" for target in sorted(targets))
    lines.extend(f"    {source.name} --> [*]" for source, targets in transitions.items() if not targets)
    return [*lines, "```"]


def _table(transitions: Mapping[S, frozenset[S]]) -> list[str]:
    rows = [f"| {source.name} | {_names(targets) or '(final)'} |" for source, targets in transitions.items()]
    return ["| From | To |", "|---|---|", *rows]


def _names(states: frozenset[S]) -> str:
    return ", ".join(state.name for state in sorted(states))
