"""Bytes of `weconnect.internal.v1` task messages to and from the values of `core.tasks`.

Hot path of scheduler and runner: one call per message, whole batches at once. Decoding raises `WireError` for
bytes that are no such message; texts from outside travel as bytes and are decoded with replacement.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from services.core.tasks import (
    AnswerBatch,
    Ask,
    AttemptRef,
    Beat,
    Control,
    Failure,
    HeldTask,
    LogChunk,
    LogLine,
    Nudge,
    Result,
    ResultBatch,
    Task,
    VerdictBatch,
)
from weconnect.internal.v1 import task_pb2 as pb

M = TypeVar("M", bound=Message)


class WireError(ValueError):
    """Bytes from the bus that are not the message they should be."""


def _parse(kind: type[M], data: bytes, complaint: str) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise WireError(complaint) from error


def _ref(execution_id: bytes, node: int, attempt: int) -> pb.AttemptRef:
    return pb.AttemptRef(execution_id=execution_id, node=node, attempt=attempt)


def _checked(ref: pb.AttemptRef) -> pb.AttemptRef:
    if len(ref.execution_id) != 16:
        raise WireError("an execution id has 16 bytes")
    return ref


def encode_task(task: Task) -> bytes:
    """Bytes of one task, as published on its queue. Fields are set in place, defaults left out: half the cost."""
    m = pb.Task()
    ref = m.ref
    ref.execution_id, ref.node, ref.attempt = task.execution_id, task.node, task.attempt
    m.node_id, m.node_name, m.type = task.node_id, task.node_name, task.type
    m.parameters, m.bindings = task.parameters, task.bindings
    m.idempotency_key, m.publication, m.published_at = (
        task.idempotency_key,
        task.publication,
        task.published_at,
    )
    m.organization_id, m.workflow_name = task.organization_id, task.workflow_name
    if task.start_to_close_us or task.heartbeat_us:
        m.start_to_close_us, m.heartbeat_us = task.start_to_close_us, task.heartbeat_us
    if task.heartbeat_details:
        m.heartbeat_details = task.heartbeat_details
    if task.slots != 1:
        m.slots = task.slots
    if task.sampled:
        m.sampled = True
    if task.counted_attempts:
        m.counted_attempts = task.counted_attempts
    return m.SerializeToString()


def decode_task(data: bytes) -> Task:
    """Task of `encode_task`; raises `WireError`."""
    m = _parse(pb.Task, data, "not a task")
    ref = _checked(m.ref)
    return Task(
        ref.execution_id, ref.node, ref.attempt, m.node_id, m.node_name, m.type, m.parameters, m.bindings,
        m.start_to_close_us, m.heartbeat_us, m.idempotency_key, m.publication, m.published_at,
        m.organization_id, m.workflow_name, m.heartbeat_details, m.slots or 1, m.sampled, m.counted_attempts
    )  # fmt: skip


def _result_message(r: Result) -> pb.Result:
    m = pb.Result()
    ref = m.ref
    ref.execution_id, ref.node, ref.attempt = r.execution_id, r.node, r.attempt
    m.token, m.started_at, m.ended_at = r.token, r.started_at, r.ended_at
    if r.output is not None:
        m.output = r.output
    elif r.failure is not None:
        f = r.failure
        m.failure.SetInParent()
        m.failure.type, m.failure.message = f.type, f.message.encode("utf-8", "replace")
        m.failure.details, m.failure.retryable = f.details, f.retryable
        m.failure.retry_after_us = f.retry_after_us
    else:
        m.returned = True
    if r.cpu_seconds:
        m.cpu_seconds = r.cpu_seconds
    if r.memory_bytes:
        m.memory_bytes = r.memory_bytes
    return m


def encode_result(result: Result) -> bytes:
    """Bytes of one result, to be joined by `join_results` now and at every repetition."""
    return _result_message(result).SerializeToString()


def join_results(runner_id: str, results: Iterable[bytes]) -> bytes:
    """Bytes of a `ResultBatch` of results of `encode_result`: protobuf fields are laid side by side."""
    parts = [pb.ResultBatch(runner_id=runner_id).SerializeToString()]
    for data in results:
        parts.append(b"\x12" + _varint(len(data)))
        parts.append(data)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_results(data: bytes) -> ResultBatch:
    """Batch of `join_results`; raises `WireError`."""
    m = _parse(pb.ResultBatch, data, "not a batch of results")
    return ResultBatch(m.runner_id, [_result(r) for r in m.results])


def _result(m: pb.Result) -> Result:
    ref = _checked(m.ref)
    output: bytes | None = None
    failure: Failure | None = None
    returned = False
    match m.WhichOneof("outcome"):
        case "output":
            output = m.output
        case "failure":
            f = m.failure
            failure = Failure(
                f.type, f.message.decode("utf-8", "replace"), f.details, f.retryable, f.retry_after_us
            )
        case "returned":
            returned = True
        case _:
            raise WireError("a result without outcome")
    return Result(
        m.token, ref.execution_id, ref.node, ref.attempt, m.started_at, m.ended_at, output, failure,
        returned, m.cpu_seconds, m.memory_bytes
    )  # fmt: skip


def encode_verdicts(batch: VerdictBatch) -> bytes:
    """Bytes of a batch of verdicts for one runner."""
    return pb.VerdictBatch(counted=batch.counted, stale=batch.stale).SerializeToString()


def decode_verdicts(data: bytes) -> VerdictBatch:
    """Batch of `encode_verdicts`; raises `WireError`."""
    m = _parse(pb.VerdictBatch, data, "not a batch of verdicts")
    return VerdictBatch(list(m.counted), list(m.stale))


def encode_beat(beat: Beat) -> bytes:
    """Bytes of one beat."""
    m = pb.Beat(
        runner_id=beat.runner_id,
        whole=beat.whole,
        slots=beat.slots,
        slots_used=beat.slots_used,
        queues=beat.queues,
        node_types=beat.node_types,
        draining=beat.draining,
        address=beat.address,
    )
    m.held.extend(
        [
            pb.HeldTask(
                ref=_ref(h.execution_id, h.node, h.attempt),
                started_at=h.started_at,
                heartbeat_details=h.heartbeat_details,
            )
            for h in beat.held
        ]
    )
    return m.SerializeToString()


def decode_beat(data: bytes) -> Beat:
    """Beat of `encode_beat`; raises `WireError`."""
    m = _parse(pb.Beat, data, "not a beat")
    held = []
    for h in m.held:
        ref = _checked(h.ref)
        held.append(HeldTask(ref.execution_id, ref.node, ref.attempt, h.started_at, h.heartbeat_details))
    return Beat(
        m.runner_id, m.whole, held, m.slots, m.slots_used, tuple(m.queues), tuple(m.node_types), m.draining,
        m.address
    )  # fmt: skip


def encode_control(control: Control) -> bytes:
    """Bytes of an owner's word to a runner."""
    m = pb.Control(now=control.now)
    m.cancel.extend([_ref(c.execution_id, c.node, c.attempt) for c in control.cancel])
    return m.SerializeToString()


def decode_control(data: bytes) -> Control:
    """Word of `encode_control`; raises `WireError`."""
    m = _parse(pb.Control, data, "not a control message")
    return Control(
        tuple(AttemptRef(c.execution_id, c.node, c.attempt) for c in map(_checked, m.cancel)), m.now
    )


def encode_ask(ask: Ask) -> bytes:
    """Bytes of one ask."""
    ref = _ref(ask.execution_id, ask.node, ask.attempt)
    return pb.Ask(runner_id=ask.runner_id, token=ask.token, ref=ref).SerializeToString()


def decode_ask(data: bytes) -> Ask:
    """Ask of `encode_ask`; raises `WireError`."""
    m = _parse(pb.Ask, data, "not an ask")
    ref = _checked(m.ref)
    return Ask(m.runner_id, m.token, ref.execution_id, ref.node, ref.attempt)


def encode_answers(batch: AnswerBatch) -> bytes:
    """Bytes of a batch of answers for one runner."""
    return pb.AnswerBatch(run=batch.run, drop=batch.drop).SerializeToString()


def decode_answers(data: bytes) -> AnswerBatch:
    """Batch of `encode_answers`; raises `WireError`."""
    m = _parse(pb.AnswerBatch, data, "not a batch of answers")
    return AnswerBatch(list(m.run), list(m.drop))


def encode_log_chunk(chunk: LogChunk) -> bytes:
    """Bytes of a chunk of log lines."""
    m = pb.LogChunk(ref=_ref(chunk.execution_id, chunk.node, chunk.attempt))
    m.lines.extend(
        [
            pb.LogLine(number=line.number, at=line.at, level=line.level, message=line.message, data=line.data)
            for line in chunk.lines
        ]
    )
    return m.SerializeToString()


def decode_log_chunk(data: bytes) -> LogChunk:
    """Chunk of `encode_log_chunk`; raises `WireError`."""
    m = _parse(pb.LogChunk, data, "not a chunk of log lines")
    ref = _checked(m.ref)
    lines = [LogLine(line.number, line.at, line.level, line.message, line.data) for line in m.lines]
    return LogChunk(ref.execution_id, ref.node, ref.attempt, lines)


def encode_nudge(nudge: Nudge) -> bytes:
    """Bytes of a nudge."""
    return pb.Nudge(execution_ids=nudge.execution_ids).SerializeToString()


def decode_nudge(data: bytes) -> Nudge:
    """Nudge of `encode_nudge`; raises `WireError`."""
    return Nudge(list(_parse(pb.Nudge, data, "not a nudge").execution_ids))
