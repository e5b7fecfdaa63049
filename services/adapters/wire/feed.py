"""Commit digests as facts: what the monitor counts, without knowing the events' encoding."""

from __future__ import annotations

from dataclasses import dataclass

from weconnect.internal.v1 import history_pb2 as pb


@dataclass(frozen=True, slots=True)
class AttemptFact:
    """An attempt, or a node decided in the scheduler, came to something.

    `outcome` is succeeded, failed, timed_out, retried or lost; instants are 0 when it never ran.
    """

    node: int
    outcome: str
    started_at: int
    ended_at: int
    cpu_seconds: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ExecutionFact:
    """What a commit changed in one execution; `ended` is its final status or empty."""

    execution_id: bytes
    organization_id: str
    workflow_id: bytes
    version_id: bytes
    mode: str
    created_at: int
    started_at: int
    started: bool
    ended: str
    attempts: tuple[AttemptFact, ...]


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """One commit of a session."""

    session: int
    number: int
    at: int
    executions: tuple[ExecutionFact, ...]


def decode_facts(digest: bytes) -> CommitFacts:
    """Facts of a commit's digest."""
    message = pb.CommitDigest.FromString(digest)
    executions = tuple(_execution(touched) for touched in message.touched)
    return CommitFacts(message.session, message.number, message.at, executions)


def _execution(touched: pb.Touched) -> ExecutionFact:
    attempts: list[AttemptFact] = []
    started = False
    for event in touched.events:
        kind = event.WhichOneof("kind")
        if kind == "node_succeeded":
            s = event.node_succeeded
            attempts.append(
                AttemptFact(s.node, "succeeded", s.started_at, s.ended_at, s.cpu_seconds, s.memory_bytes)
            )
        elif kind == "execution_started":
            started = True
        elif kind == "node_failed":
            f = event.node_failed
            timed_out = f.error.type == "TIMEOUT" and f.error.timeout
            attempts.append(
                AttemptFact(f.node, "timed_out" if timed_out else "failed", f.started_at, f.ended_at)
            )
        elif kind == "node_retrying":
            r = event.node_retrying
            attempts.append(AttemptFact(r.node, "retried", r.started_at, r.ended_at))
        elif kind == "attempt_lost":
            attempts.append(AttemptFact(event.attempt_lost.node, "lost", 0, 0))
    return ExecutionFact(
        touched.execution_id,
        touched.organization_id,
        touched.workflow_id,
        touched.version_id,
        touched.mode,
        touched.created_at,
        touched.started_at,
        started,
        touched.ended,
        tuple(attempts),
    )
