"""Task messages survive the wire, and foreign bytes are refused."""

from __future__ import annotations

import pytest

from services.adapters.wire import tasks as wire
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

ID = bytes(range(16))


def test_task_survives() -> None:
    task = Task(
        ID,
        7,
        2,
        "n",
        "Name",
        "http.request",
        b"{}",
        b'{"input":1}',
        5,
        6,
        "key",
        3,
        99,
        "org",
        "order",
        b"1",
        2,
        True,
        4,
    )
    assert wire.decode_task(wire.encode_task(task)) == task


def test_slots_default_to_one() -> None:
    task = Task(ID, 0, 1, "n", "n", "t", slots=0)
    assert wire.decode_task(wire.encode_task(task)).slots == 1


def results() -> list[Result]:
    return [
        Result(1, ID, 0, 1, 10, 20, output=b"null", cpu_seconds=0.5, memory_bytes=9),
        Result(2**63, ID, 1, 1, 10, 20, failure=Failure("NETWORK", "nö\x00", b"{}", False, 7)),
        Result(3, ID, 2, 1, 0, 0, returned=True),
        Result(4, ID, 3, 1, 0, 0, output=b"x" * 20_000),
        Result(5, ID, 3, 1, 0, 0, output=b""),
    ]


def test_results_survive() -> None:
    joined = wire.join_results("runner", [wire.encode_result(r) for r in results()])
    assert wire.decode_results(joined) == ResultBatch("runner", results())


def test_surrogates_in_a_failure_do_not_break_it() -> None:
    result = Result(1, ID, 0, 1, 0, 0, failure=Failure("X", "bad \ud800"))
    decoded = wire.decode_results(wire.join_results("r", [wire.encode_result(result)])).results[0]
    assert decoded.failure is not None and decoded.failure.message == "bad ?"


def test_the_others_survive() -> None:
    verdicts = VerdictBatch([1, 2**40], [3])
    assert wire.decode_verdicts(wire.encode_verdicts(verdicts)) == verdicts
    beat = Beat("r", True, [HeldTask(ID, 1, 2, 3, b"{}")], 100, 1, ("q",), ("t",), True, "h:1")
    assert wire.decode_beat(wire.encode_beat(beat)) == beat
    control = Control((AttemptRef(ID, 1, 2),), 77)
    assert wire.decode_control(wire.encode_control(control)) == control
    ask = Ask("r", 5, ID, 1, 2)
    assert wire.decode_ask(wire.encode_ask(ask)) == ask
    answers = AnswerBatch([1], [2, 3])
    assert wire.decode_answers(wire.encode_answers(answers)) == answers
    chunk = LogChunk(ID, 1, 2, [LogLine(1, 5, 2, b"hi", b'{"a":1}')])
    assert wire.decode_log_chunk(wire.encode_log_chunk(chunk)) == chunk
    nudge = Nudge([ID, ID])
    assert wire.decode_nudge(wire.encode_nudge(nudge)) == nudge


@pytest.mark.parametrize(
    "decode",
    [
        wire.decode_task,
        wire.decode_results,
        wire.decode_verdicts,
        wire.decode_beat,
        wire.decode_control,
        wire.decode_ask,
        wire.decode_answers,
        wire.decode_log_chunk,
        wire.decode_nudge,
    ],
)
def test_foreign_bytes_are_refused(decode: object) -> None:
    with pytest.raises(wire.WireError):
        decode(b"\xff\xff\xff")  # type: ignore[operator]


def test_a_short_execution_id_is_refused() -> None:
    with pytest.raises(wire.WireError):
        wire.decode_task(wire.encode_task(Task(b"short", 0, 1, "n", "n", "t")))
