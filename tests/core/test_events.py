"""Stored histories: every kind round-trips, and what any release ever wrote still applies, to the same state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import pytest
import yaml

from services.adapters.wire.history import UnknownEvent, decode_events, encode_events
from services.adapters.wire.snapshots import encode_snapshot, restore_snapshot
from services.core import events as ev
from services.core.errors import NodeError
from services.core.machine import apply
from services.core.state import ExecutionState
from tests.core.fixtures.make_events import histories, instant_of
from tests.support.machine import Machine, compile_plain
from tests.support.transcripts import Told
from weconnect.internal.v1 import history_pb2 as pb

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("events-v*.binpb"))

ERROR = NodeError("DECLINED", "no €\0", b'{"a":1}', False, "heartbeat", 7, 3)
CHOICES = (
    ev.EdgeChoice(0, ev.EdgeOutcome.TAKEN),
    ev.EdgeChoice(1, ev.EdgeOutcome.DEAD),
    ev.EdgeChoice(2, ev.EdgeOutcome.ERROR, "why"),
)
FULL: list[ev.Event] = [
    ev.ExecutionStarted(5),
    ev.NodeScheduled(1, 2, b'{"n":1}'),
    ev.NodeStarted(1, 2, "r1", 6),
    ev.NodeSucceeded(1, 2, b"1", "true", b'{"n":1}', CHOICES, 1, 2, "r1", 0.5, 3),
    ev.NodeFailed(1, 2, ERROR, True, True, CHOICES, (4, 5), 1, 2, "r1"),
    ev.NodeRetrying(1, 2, ERROR, 9, 1, 2, "r1"),
    ev.AttemptLost(1, 2, "r1"),
    ev.AttemptReturned(1, 2, "r1"),
    ev.NodeSkipped(1),
    ev.NodeWaiting(1, 8, "timer"),
    ev.CancelRequested("no €\0", "user", 9),
    ev.NodeCancelled(1, 2),
    ev.ExecutionEnded("failed", b"1", ERROR),
]
BARE: list[ev.Event] = [
    ev.NodeScheduled(0, 1),
    ev.NodeSucceeded(0, 0),
    ev.NodeFailed(0, 0, NodeError("", "")),
    ev.NodeRetrying(0, 1, NodeError("", ""), 0),
    ev.AttemptLost(0, 1),
    ev.ExecutionEnded("success"),
]


@pytest.mark.parametrize("event", [*FULL, *BARE], ids=lambda event: type(event).__name__)
def test_every_kind_survives_its_encoding(event: ev.Event) -> None:
    assert decode_events(encode_events([event])) == [event]


def test_no_kind_is_forgotten() -> None:
    kinds = {*get_args(ev.Event)}
    assert {type(event) for event in FULL} == kinds
    assert {type(event) for history in histories() for _, event in history} == kinds


def test_a_kind_of_a_newer_release_is_refused_not_skipped() -> None:
    unknown = pb.Events(events=[pb.Event()]).SerializeToString()
    with pytest.raises(UnknownEvent):
        decode_events(unknown)


def test_a_snapshot_of_a_newer_release_is_refused() -> None:
    machine = Machine(compile_plain({"name": "w", "nodes": [{"id": "a", "type": "noop"}]}))
    newer = pb.Snapshot(events_version=ev.EVENTS_VERSION + 1).SerializeToString()
    with pytest.raises(UnknownEvent):
        restore_snapshot(machine.new_state(), newer)


def test_what_people_wrote_never_stops_a_commit() -> None:
    odd = ev.CancelRequested("a\ud800b", "user", 9)
    assert decode_events(encode_events([odd])) == [ev.CancelRequested("a?b", "user", 9)]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_what_every_release_wrote_still_applies(path: Path) -> None:
    machine = Machine(compile_plain(yaml.safe_load(path.with_suffix(".yaml").read_text())))
    told = Told(machine)
    lines: list[str] = []
    state = machine.new_state()
    for event in decode_events(path.read_bytes()):
        if isinstance(event, ev.ExecutionStarted):
            state = machine.new_state()
        apply(state, event, instant_of(state.sequence + 1))
        lines.append(told.event_line(event))
        if isinstance(event, ev.ExecutionEnded):
            lines += [*_statuses(state), ""]
        restored = machine.new_state()
        restore_snapshot(restored, encode_snapshot(state))
        assert encode_snapshot(restored) == encode_snapshot(state)
    text = "\n".join(lines)
    expected = path.with_suffix(".txt")
    if os.environ.get("REWRITE") and not expected.exists():
        expected.write_text(text)
    assert text == expected.read_text()


def test_this_release_has_a_fixture() -> None:
    assert f"events-v{ev.EVENTS_VERSION}" in [path.stem for path in FIXTURES]


def _statuses(state: ExecutionState) -> list[str]:
    nodes = zip(state.workflow.nodes, state.nodes, strict=True)
    return [f"* {state.status.name}", *(f"{compiled.id} {node.status.name}" for compiled, node in nodes)]
