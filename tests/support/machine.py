"""One execution of the pure machine, driven by hand: no store, no bus, a clock that stands still until it is told.

Used by the transcripts and the property tests. Every decision is kept as its commit would be, so that a reader's
and a successor's way to the same state can be walked and compared.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from services.adapters.cel import CelCompiler
from services.adapters.json_codec import JSON
from services.adapters.wire.history import decode_events, encode_events
from services.adapters.wire.snapshots import encode_snapshot, restore_snapshot
from services.core.definition.parse import parse_definition
from services.core.events import Event
from services.core.graph import CompiledWorkflow, compile_workflow
from services.core.inputs import Input
from services.core.machine import Decision, apply, decide
from services.core.state import ExecutionInfo, ExecutionState, Values, new_execution
from services.core.units import MINUTE, SECOND

# 2026-01-01T00:00:00Z: instants in transcripts are told from here.
EPOCH = 1_767_225_600 * SECOND
DEFAULT_TIMEOUT_US = 5 * MINUTE


@lru_cache(1)
def compiler() -> CelCompiler:
    """The one CEL compiler of the test run."""
    return CelCompiler()


def compile_plain(plain: dict[str, Any]) -> CompiledWorkflow:
    """Compiled workflow of a definition's plain shape; problems fail the test."""
    definition, problems = parse_definition(plain)
    assert definition is not None, problems
    return compile_workflow(definition, compiler())


class Machine:
    """An execution: `state` as its owner has it, `commits` as (instant, first sequence, packed events)."""

    def __init__(self, workflow: CompiledWorkflow, input_json: bytes = b"", now: int = EPOCH) -> None:
        self.workflow = workflow
        self.input_json = input_json
        self.info = ExecutionInfo(
            id=bytes(15) + b"\x01",
            organization_id="org",
            user_id="user",
            workflow_id=bytes(15) + b"\x02",
            workflow_name=workflow.definition.name,
            version_id=bytes(15) + b"\x03",
            version=1,
            mode="manual",
            priority="normal",
            labels={},
            created_at=now,
            timeout_us=workflow.timeout_us or DEFAULT_TIMEOUT_US,
            key_root=bytes(15) + b"\x01",
        )
        self.now = now
        self.state = self.new_state()
        self.commits: list[tuple[int, int, bytes]] = []

    def new_state(self) -> ExecutionState:
        """State before the first event."""
        return new_execution(self.info, self.workflow, Values(JSON, self.input_json))

    def decide(self, happened: Input, draw: float = 0.5) -> Decision:
        """Decide and commit."""
        first = self.state.sequence + 1
        decision = decide(self.state, happened, self.now, draw)
        assert self.state.sequence == first - 1 + len(decision.events)
        if decision.events:
            self.commits.append((self.now, first, encode_events(decision.events)))
        return decision

    def events(self) -> list[tuple[int, Event]]:
        """The whole history as (instant, event)."""
        return [(at, event) for at, _, packed in self.commits for event in decode_events(packed)]

    def replayed(self, commits: int | None = None) -> ExecutionState:
        """State that a reader folds from the first `commits` commits, or from all."""
        state = self.new_state()
        for at, _, packed in self.commits[:commits]:
            for event in decode_events(packed):
                apply(state, event, at)
        return state

    def restored(self, commits: int) -> ExecutionState:
        """State that a successor builds: snapshot after `commits` commits, history since, outputs from rows."""
        state = self.new_state()
        restore_snapshot(state, encode_snapshot(self.replayed(commits)))
        for at, _, packed in self.commits[commits:]:
            for event in decode_events(packed):
                apply(state, event, at)
        rows = {first: decode_events(packed) for _, first, packed in self.commits}
        by_sequence = {first + i: event for first, events in rows.items() for i, event in enumerate(events)}
        for node, sequence in state.missing_outputs():
            state.values.put(node, getattr(by_sequence[sequence], "output", b""))
        state.values.complete = True
        return state

    def check_ways(self) -> None:
        """All ways to the present state must lead to it, byte for byte."""
        here = encode_snapshot(self.state)
        assert encode_snapshot(self.replayed()) == here
        for commits in range(len(self.commits) + 1):
            assert encode_snapshot(self.restored(commits)) == here
