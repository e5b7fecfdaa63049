"""What must hold after a campaign. Each check returns what is wrong, in words; an empty list is a proof so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from services.adapters.wire.finished import finished_execution
from services.core import events as ev
from services.core.state import failed_status
from services.core.states import NodeStatus
from tests.faults.graphs import Case
from tests.faults.load import Load, Started
from tests.faults.truth import Record, Truth
from tests.support.ledger import Effect

# Instants of the ledger are the machine's clock, those of history are its correction by the database's.
CLOCK_SLACK_US = 100_000
ROW_FIELDS = (
    "status", "completed_at", "sequence", "status_reason", "output", "error", "started_at", "nodes_executed",
    "nodes_failed", "metrics", "snapshot",
)  # fmt: skip


@dataclass(slots=True)
class Evidence:
    """Everything that is judged: the client's journal, the ledger of effects, and the rows."""

    loads: Sequence[Load]
    effects: Sequence[Effect]
    records: dict[str, Record]

    @property
    def acknowledged(self) -> dict[str, Started]:
        """What clients were promised, by execution id."""
        return {execution_id: one for load in self.loads for execution_id, one in load.acknowledged.items()}


async def gather(loads: Sequence[Load], effects: Sequence[Effect], truth: Truth) -> Evidence:
    """Read the rows."""
    return Evidence(loads, effects, {record.id: record for record in await truth.records()})


def judge(evidence: Evidence) -> list[str]:
    """All checks that need nothing but the evidence."""
    wrong = [text for load in evidence.loads for text in load.wrong]
    wrong += check_promises(evidence)
    for record in evidence.records.values():
        wrong += [f"{record.id} ({record.row.start.workflow_name}): {text}" for text in check_record(record)]
    wrong += check_effects(evidence)
    wrong += check_watches(evidence)
    return wrong


def check_promises(evidence: Evidence) -> list[str]:
    """Every acknowledged execution has ended as it must, and none is there that nobody asked for."""
    wrong: list[str] = []
    promised = evidence.acknowledged
    for execution_id, one in promised.items():
        record = evidence.records.get(execution_id)
        if record is None:
            wrong.append(f"{one.key}: {execution_id} was acknowledged and has not ended")
            continue
        wrong += [
            f"{one.key} ({one.case.workflow}, {execution_id}): {text}" for text in _outcome(one.case, record)
        ]
    strangers = set(evidence.records) - set(promised)
    wrong += [f"{stranger} was never acknowledged" for stranger in sorted(strangers)]
    keys = Counter(one.key for one in promised.values())
    wrong += [f"{key} stands for {count} executions" for key, count in keys.items() if count > 1]
    return wrong


def _outcome(case: Case, record: Record) -> list[str]:
    row = record.row
    if row.status != case.status:
        why = record.state.error if record.state is not None else None
        return [f"ended as {row.status}, not {case.status}: {why}"]
    output = orjson.loads(row.output) if row.output else None
    if case.output is not None and output != case.output:
        return [f"its output is {output!r:.200}, not {case.output!r:.200}"]
    return []


def check_record(record: Record) -> list[str]:
    """History, row and the rules of attempts."""
    wrong = list(record.problems)
    if record.state is not None:
        wrong += _check_row(record)
    ends = [event for _, event in record.events if isinstance(event, ev.ExecutionEnded)]
    if len(ends) != 1 or not isinstance(record.events[-1][1], ev.ExecutionEnded):
        wrong.append(f"{len(ends)} ends in its history, which must have one, last")
    results: Counter[int] = Counter()
    attempts: dict[int, int] = {}
    for _, event in record.events:
        if isinstance(event, ev.NodeSucceeded | ev.NodeFailed):
            results[event.node] += 1
        if isinstance(event, ev.NodeScheduled):
            if event.attempt != attempts.get(event.node, 0) + 1:
                wrong.append(
                    f"node {event.node}: attempt {event.attempt} after {attempts.get(event.node, 0)}"
                )
            attempts[event.node] = event.attempt
        elif (attempt := getattr(event, "attempt", 0)) and attempt != attempts.get(event.node, 0):  # type: ignore[union-attr]
            wrong.append(f"{event} while attempt {attempts} is current")
    wrong += [f"node {node} has {count} results" for node, count in results.items() if count > 1]
    return wrong


def _check_row(record: Record) -> list[str]:
    assert record.state is not None
    if not record.state.status.final:
        return ["its history does not end"]
    folded = finished_execution(record.state)
    return [
        f"{name} is {getattr(record.row, name)!r:.200} in its row and {getattr(folded, name)!r:.200} by its history"
        for name in ROW_FIELDS
        if getattr(record.row, name) != getattr(folded, name)
    ]


def check_effects(evidence: Evidence) -> list[str]:
    """Effects against history: what counts was done, by the attempt that says so, after it was dispatched."""
    wrong: list[str] = []
    by_node: dict[tuple[str, str], list[Effect]] = defaultdict(list)
    nodes_of_key: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for effect in evidence.effects:
        by_node[effect.execution, effect.node].append(effect)
        nodes_of_key[effect.key].add((effect.execution, effect.node))
    for key, nodes in nodes_of_key.items():
        if len(nodes) > 1:
            wrong.append(f"key {key} stands for {sorted(nodes)}")
    for node, effects in by_node.items():
        if len({effect.key for effect in effects}) > 1:
            wrong.append(f"{node} has several keys")
    for record in evidence.records.values():
        wrong += _check_effects_of(record, by_node)
    for execution_id, one in evidence.acknowledged.items():
        if one.case.status == "success":
            missing = [node for node in sorted(one.case.required) if not by_node.get((execution_id, node))]
            wrong += [f"{one.key}: {execution_id} succeeded without an effect of {node}" for node in missing]
    return wrong


def _check_effects_of(record: Record, by_node: dict[tuple[str, str], list[Effect]]) -> list[str]:
    if record.state is None:
        return []
    wrong: list[str] = []
    nodes = record.state.workflow.nodes
    scheduled_at: dict[tuple[int, int], int] = {}
    for at, event in record.events:
        if isinstance(event, ev.NodeScheduled):
            scheduled_at[event.node, event.attempt] = at
        elif isinstance(event, ev.NodeSucceeded) and event.attempt:
            done = {effect.attempt for effect in by_node.get((record.id, nodes[event.node].id), [])}
            if nodes[event.node].type.startswith("test.") and event.attempt not in done:
                wrong.append(f"{record.id}: {nodes[event.node].id} succeeded by an attempt that never ran")
    for index, node in enumerate(nodes):
        for effect in by_node.get((record.id, node.id), []):
            dispatched_at = scheduled_at.get((index, effect.attempt))
            if dispatched_at is None:
                wrong.append(
                    f"{record.id}: attempt {effect.attempt} of {node.id} ran and is not in its history"
                )
            elif effect.at < dispatched_at - CLOCK_SLACK_US:
                early_us = dispatched_at - effect.at
                wrong.append(f"{record.id}: {node.id} ran {early_us} µs before it was scheduled")
    return wrong


def doubled_attempts(effects: Iterable[Effect]) -> list[tuple[str, str, int]]:
    """Attempts that took effect twice: legal (effects happen at least once), and rare."""
    counts = Counter((effect.execution, effect.node, effect.attempt) for effect in effects)
    return [attempt for attempt, count in counts.items() if count > 1]


def check_watches(evidence: Evidence) -> list[str]:
    """A watch that broke and was resumed has seen what one from the start sees: each change once, in order."""
    wrong: list[str] = []
    for execution_id, one in evidence.acknowledged.items():
        record = evidence.records.get(execution_id)
        if one.changes is None or record is None or record.state is None:
            continue
        seen = [change.sequence for change in one.changes]
        if seen != sorted(seen):
            wrong.append(f"{one.key}: a watch was out of order: {seen}")
        missing = _nodes_that_ended(record) - {(change.node_id, change.sequence) for change in one.changes}
        if missing:
            wrong.append(f"{one.key}: a watch (resumed {one.resumed} times) missed {sorted(missing)}")
        doubled = [key for key, n in Counter((c.node_id, c.sequence) for c in one.changes).items() if n > 1]
        if doubled:
            wrong.append(f"{one.key}: a watch (resumed {one.resumed} times) saw {doubled} more than once")
    return wrong


def _nodes_that_ended(record: Record) -> set[tuple[str, int]]:
    assert record.state is not None
    nodes = record.state.workflow.nodes
    return {
        (nodes[event.node].id, sequence)
        for sequence, (_, event) in enumerate(record.events, start=1)
        if isinstance(event, ev.NodeSucceeded | ev.NodeFailed | ev.NodeScheduled)
    }


async def check_rollups(evidence: Evidence, truth: Truth) -> list[str]:
    """The monitor's counts are those of the histories."""
    statuses: Counter[str] = Counter(record.row.status for record in evidence.records.values())
    nodes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for record in evidence.records.values():
        if record.state is None:
            continue
        for _, event in record.events:
            if isinstance(event, ev.ExecutionStarted):
                statuses["started"] += 1
            elif (outcome := _outcome_of(event)) is not None:
                node = record.state.workflow.nodes[event.node].id  # type: ignore[union-attr]
                nodes[record.row.start.workflow_id.hex(), node][outcome] += 1
    counted_statuses, counted_nodes = await truth.rolled_up()
    wrong = []
    if counted_statuses != statuses:
        wrong.append(f"roll-ups count {dict(counted_statuses)}, executions are {dict(statuses)}")
    wrong += [
        f"roll-ups of {key}: {counted_nodes.get(key)}, histories: {nodes.get(key)}"
        for key in sorted(counted_nodes.keys() | nodes.keys())
        if counted_nodes.get(key, Counter()) != nodes.get(key, Counter())
    ]
    return wrong


def _outcome_of(event: ev.Event) -> str | None:
    match event:
        case ev.NodeSucceeded():
            return "succeeded"
        case ev.NodeFailed():
            return "timed_out" if failed_status(event.error) is NodeStatus.TIMEOUT else "failed"
        case ev.NodeRetrying():
            return "retried"
        case ev.AttemptLost():
            return "lost"
    return None


async def check_logs(evidence: Evidence, truth: Truth) -> list[str]:
    """Lines are numbered without holes, and a counted attempt of a talkative node has all of its lines."""
    wrong = [f"log lines of {gap}" for gap in await truth.log_gaps()]
    lines = await truth.line_counts()
    for record in evidence.records.values():
        if record.state is None:
            continue
        for _, event in record.events:
            if isinstance(event, ev.NodeSucceeded):
                node = record.state.workflow.nodes[event.node]
                if node.type == "test.talkative":
                    expected = orjson.loads(node.parameters_json)["lines"]
                    found = lines[record.id, node.id, event.attempt]
                    if found != expected:
                        wrong.append(f"{record.id}: {node.id} has {found} of {expected} lines")
    return wrong
