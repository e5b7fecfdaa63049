"""The tables of legal transitions, and the page that is made from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.core import events as ev
from services.core.diagram import states_page
from services.core.errors import NodeError
from services.core.machine import apply
from services.core.states import (
    ACTIVE,
    EXECUTION_TRANSITIONS,
    NODE_TRANSITIONS,
    OPEN,
    ExecutionStatus,
    IllegalTransition,
    NodeStatus,
)
from tests.support.machine import EPOCH, Machine, compile_plain

PAGE = Path(__file__).parents[2] / "docs" / "STATES.md"

ERROR = NodeError("NETWORK", "it broke")
EVENT_TO: dict[NodeStatus, ev.Event] = {
    NodeStatus.SCHEDULED: ev.NodeScheduled(0, 1),
    NodeStatus.RUNNING: ev.NodeStarted(0, 1, "r1", EPOCH),
    NodeStatus.WAITING: ev.NodeWaiting(0, EPOCH),
    NodeStatus.RETRYING: ev.NodeRetrying(0, 1, ERROR, EPOCH),
    NodeStatus.SUCCESS: ev.NodeSucceeded(0, 1),
    NodeStatus.FAILED: ev.NodeFailed(0, 1, ERROR),
    NodeStatus.TIMEOUT: ev.NodeFailed(0, 1, NodeError("TIMEOUT", "late", timeout="start_to_close")),
    NodeStatus.SKIPPED: ev.NodeSkipped(0),
}


def test_the_page_is_what_the_tables_say() -> None:
    if os.environ.get("REWRITE"):
        PAGE.write_text(states_page())
    assert PAGE.read_text() == states_page()


def test_nothing_leaves_a_final_state() -> None:
    assert {s for s in ExecutionStatus if s.final} == {s for s, to in EXECUTION_TRANSITIONS.items() if not to}
    assert {s for s in NodeStatus if s.final} == {s for s, to in NODE_TRANSITIONS.items() if not to}
    assert {s for s in NodeStatus if not s.final} - {NodeStatus.PENDING} == OPEN
    assert ACTIVE < OPEN


def test_the_tables_are_what_was_agreed() -> None:
    e, n = ExecutionStatus, NodeStatus
    assert EXECUTION_TRANSITIONS[e.PENDING] == {e.RUNNING, e.CANCELLED}
    assert EXECUTION_TRANSITIONS[e.PAUSED] == {e.RUNNING, e.CANCELLED}
    assert NODE_TRANSITIONS[n.PENDING] == set(n) - {n.PENDING, n.RETRYING, n.TIMEOUT}
    assert NODE_TRANSITIONS[n.SCHEDULED] == set(n) - {n.PENDING, n.SCHEDULED, n.SKIPPED}
    for status in (n.RUNNING, n.WAITING, n.RETRYING):
        assert NODE_TRANSITIONS[status] == set(n) - {n.PENDING, n.SKIPPED, status}


@pytest.mark.parametrize("status", list(NodeStatus), ids=lambda s: s.name)
@pytest.mark.parametrize("to", list(EVENT_TO), ids=lambda s: s.name)
def test_an_event_that_the_table_does_not_have_is_refused(status: NodeStatus, to: NodeStatus) -> None:
    machine = Machine(compile_plain({"name": "w", "nodes": [{"id": "a", "type": "work"}]}))
    state = machine.state
    apply(state, ev.ExecutionStarted(EPOCH + 1), EPOCH)
    state.nodes[0].status = status
    if to in NODE_TRANSITIONS[status]:
        apply(state, EVENT_TO[to], EPOCH)
        assert state.nodes[0].status is to
    else:
        with pytest.raises(IllegalTransition):
            apply(state, EVENT_TO[to], EPOCH)


def test_an_execution_ends_once() -> None:
    machine = Machine(compile_plain({"name": "w", "nodes": [{"id": "a", "type": "work"}]}))
    apply(machine.state, ev.ExecutionStarted(EPOCH + 1), EPOCH)
    apply(machine.state, ev.ExecutionEnded("success"), EPOCH)
    with pytest.raises(IllegalTransition):
        apply(machine.state, ev.ExecutionEnded("failed"), EPOCH)
    with pytest.raises(IllegalTransition):
        apply(machine.state, ev.ExecutionStarted(EPOCH + 1), EPOCH)
