"""Commits are counted into roll-ups: what started, what ended and how, what became of each attempt."""

from __future__ import annotations

from services.adapters.wire.commits import encode_change, encode_digest
from services.adapters.wire.feed import CommitFacts, decode_facts
from services.core.errors import TIMEOUT, NodeError
from services.core.inputs import Begin, TaskFailed, TaskLost, TaskStarted, TaskSucceeded
from services.core.units import MINUTE
from services.monitor.folding import STARTED, fold
from tests.support.machine import EPOCH, Machine, compile_plain

PLAIN = {
    "name": "two",
    "nodes": [
        {"id": "a", "type": "work", "retry_policy": {"max_attempts": 2, "base_delay": "1s", "jitter": 0}},
        {"id": "b", "type": "condition", "parameters": {"condition": "true"}},
    ],
    "edges": [{"source": "a", "target": "b"}],
}


def commits_of(*happened: object) -> list[CommitFacts]:
    """Facts of one commit for each input."""
    machine = Machine(compile_plain(PLAIN))
    facts = []
    for number, one in enumerate(happened, 1):
        first = machine.state.sequence + 1
        decision = machine.decide(one)  # type: ignore[arg-type]
        touched = encode_change(machine.state, first, decision.events).touched
        facts.append(decode_facts(encode_digest(1, number, machine.now, [touched])))
        machine.now += 2_000_000
    return facts


NAMES = {bytes(15) + b"\x03": [("a", "work"), ("b", "condition")]}


def test_a_success_counts_its_start_its_nodes_and_its_end() -> None:
    facts = commits_of(Begin(), TaskSucceeded(0, 1, b"1", "r", EPOCH + 5, EPOCH + 1005))
    executions, nodes = fold(facts, NAMES)
    assert {(row.status, row.count) for row in executions} == {(STARTED, 1), ("success", 1)}
    assert all(row.minute == EPOCH - EPOCH % MINUTE for row in executions)
    by_node = {row.node_id: row for row in nodes}
    assert (by_node["a"].succeeded, by_node["a"].duration_sum_us) == (1, 1000)
    assert (by_node["b"].succeeded, by_node["b"].node_type) == (1, "condition")


def test_retries_losses_and_timeouts_are_told_apart() -> None:
    timeout = NodeError(TIMEOUT, "late", timeout="start_to_close")
    facts = commits_of(
        Begin(),
        TaskStarted(0, 1, "r", EPOCH),
        TaskLost(0, 1, "r"),
        TaskFailed(0, 2, timeout, "r", EPOCH, EPOCH + 7),
    )
    _, nodes = fold(facts, NAMES)
    (row,) = nodes
    assert (row.lost, row.retried, row.succeeded, row.failed, row.timed_out) == (1, 1, 0, 0, 0)


def test_folding_in_parts_counts_the_same_as_folding_at_once() -> None:
    facts = commits_of(Begin(), TaskSucceeded(0, 1, b"1", "r", EPOCH + 5, EPOCH + 1005))
    whole = fold(facts, NAMES)
    parts = [fold([one], NAMES) for one in facts]
    assert sum(row.count for row in whole[0]) == sum(row.count for part in parts for row in part[0])
    assert sum(row.succeeded for row in whole[1]) == sum(row.succeeded for part in parts for row in part[1])
