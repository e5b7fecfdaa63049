"""Folds commits into roll-ups: pure counting over what `adapters.wire.feed` decodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.adapters.wire.feed import AttemptFact, CommitFacts, ExecutionFact
from services.core.rollups import ExecutionRollup, NodeRollup
from services.core.units import MINUTE
from services.monitor.sketches import sketch_of

# Stands beside the final states as the status of a start.
STARTED = "started"

NodeNames = Mapping[bytes, list[tuple[str, str]]]


@dataclass(slots=True)
class _Durations:
    count: int = 0
    total_us: int = 0
    longest_us: int = 0
    values: list[int] = field(default_factory=list)

    def add(self, duration_us: int) -> None:
        self.count += 1
        self.total_us += duration_us
        self.longest_us = max(self.longest_us, duration_us)
        self.values.append(duration_us)


@dataclass(slots=True)
class _NodeCounts:
    node_type: str
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    retried: int = 0
    lost: int = 0
    cpu_us: int = 0
    memory_max_bytes: int = 0
    durations: _Durations = field(default_factory=_Durations)


def fold(commits: Iterable[CommitFacts], names: NodeNames) -> tuple[list[ExecutionRollup], list[NodeRollup]]:
    """Roll-ups of commits. `names` has (id, type) of each node of every version that occurs."""
    executions: dict[tuple[str, int, bytes, str, str], _Durations] = {}
    nodes: dict[tuple[str, int, bytes, str], _NodeCounts] = {}
    for commit in commits:
        minute = commit.at - commit.at % MINUTE
        for execution in commit.executions:
            _fold_execution(executions, execution, minute, commit.at)
            known = names.get(execution.version_id, [])
            for attempt in execution.attempts:
                if attempt.node < len(known):
                    _fold_attempt(nodes, execution, attempt, minute, *known[attempt.node])
    return _execution_rows(executions), _node_rows(nodes)


def _fold_execution(
    executions: dict[tuple[str, int, bytes, str, str], _Durations],
    execution: ExecutionFact,
    minute: int,
    at: int,
) -> None:
    key = (execution.organization_id, minute, execution.workflow_id, execution.mode)
    if execution.started:
        executions.setdefault((*key, STARTED), _Durations()).add(0)
    if execution.ended:
        began = execution.started_at or execution.created_at
        executions.setdefault((*key, execution.ended), _Durations()).add(max(at - began, 0))


def _fold_attempt(
    nodes: dict[tuple[str, int, bytes, str], _NodeCounts],
    execution: ExecutionFact,
    attempt: AttemptFact,
    minute: int,
    node_id: str,
    node_type: str,
) -> None:
    key = (execution.organization_id, minute, execution.workflow_id, node_id)
    counts = nodes.get(key)
    if counts is None:
        counts = nodes[key] = _NodeCounts(node_type)
    setattr(counts, attempt.outcome, getattr(counts, attempt.outcome) + 1)
    counts.cpu_us += int(attempt.cpu_seconds * 1_000_000)
    counts.memory_max_bytes = max(counts.memory_max_bytes, attempt.memory_bytes)
    if attempt.ended_at and attempt.started_at:
        counts.durations.add(max(attempt.ended_at - attempt.started_at, 0))


def _execution_rows(executions: dict[tuple[str, int, bytes, str, str], _Durations]) -> list[ExecutionRollup]:
    return [
        ExecutionRollup(*key, d.count, d.total_us, d.longest_us, 0, sketch_of(d.values))
        for key, d in executions.items()
    ]


def _node_rows(nodes: dict[tuple[str, int, bytes, str], _NodeCounts]) -> list[NodeRollup]:
    return [
        NodeRollup(
            *key,
            node_type=c.node_type,
            succeeded=c.succeeded,
            failed=c.failed,
            timed_out=c.timed_out,
            retried=c.retried,
            lost=c.lost,
            duration_sum_us=c.durations.total_us,
            duration_max_us=c.durations.longest_us,
            cpu_us=c.cpu_us,
            memory_max_bytes=c.memory_max_bytes,
            sketch=sketch_of(c.durations.values),
        )
        for key, c in nodes.items()
    ]
