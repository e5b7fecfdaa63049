"""Values at the edge: JSON as Struct, Value and bytes; instants, durations, enums; errors as google.rpc.Status."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from services.adapters.wire.executions import Blame, ShownExecution, execution_message
from services.adapters.wire.failures import error_type_word
from services.adapters.wire.json_values import (
    NESTING_MAX,
    JsonRefused,
    parse_json,
    put_struct,
    struct_to_plain,
    value_of,
    value_to_plain,
)
from services.adapters.wire.scalars import (
    NODE_STATUS,
    STATUS_NUMBERS,
    duration_us_of,
    instant_of,
    set_duration,
    set_instant,
)
from services.core.errors import NodeError
from services.core.records import ExecutionRecord, NewExecution
from services.core.states import ExecutionStatus
from weconnect.executions.v1 import execution_pb2

ID = bytes(range(16))

plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda x: x != int(x) if abs(x) < 2**60 else False
    )
    | st.text().filter(lambda text: "\0" not in text),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text().filter(lambda text: "\0" not in text), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(plain_json)
def test_values_survive_the_edge(value: Any) -> None:
    assert value_to_plain(value_of(value)) == value
    assert type(value_to_plain(value_of(value))) is type(value)


def test_numbers_beyond_whole_doubles_stay_doubles() -> None:
    assert value_to_plain(struct_pb2.Value(number_value=2.0**53)) == 2**53
    assert isinstance(value_to_plain(struct_pb2.Value(number_value=2.0**54)), float)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(JsonRefused):
            value_to_plain(struct_pb2.Value(number_value=bad))
    with pytest.raises(JsonRefused):
        value_to_plain(struct_pb2.Value())
    with pytest.raises(JsonRefused):
        struct_to_plain(struct_pb2.Struct(fields={"a\0": struct_pb2.Value(bool_value=True)}))


def test_json_bytes_are_checked() -> None:
    deepest = b"[" * NESTING_MAX + b"]" * NESTING_MAX
    parse_json(deepest)
    assert parse_json(b'{"a": "\\\\u0000"}') == {"a": "\\u0000"}
    for bad in (b"[" + deepest + b"]", b'["\\u0000"]', b'{"\\u0000": 1}', b"NaN", b"", b"\xff"):
        with pytest.raises(JsonRefused):
            parse_json(bad)


def test_what_is_no_object_goes_as_bytes() -> None:
    message = execution_pb2.Execution()
    put_struct(message, "output", b"[1]", exact=False)
    assert message.output_json == b"[1]"
    put_struct(message, "output", b'{"a":1}', exact=False)
    assert message.output["a"] == 1


def test_instants_and_durations() -> None:
    timestamp = timestamp_pb2.Timestamp()
    set_instant(timestamp, 1_700_000_000_123_456)
    assert instant_of(timestamp) == 1_700_000_000_123_456
    duration = duration_pb2.Duration()
    for value in (0, 1, 1_500_000, -1_500_000):
        set_duration(duration, value)
        assert duration_us_of(duration) == value
    for wrong in (
        duration_pb2.Duration(seconds=1, nanos=-1),
        duration_pb2.Duration(nanos=1_000_000_000),
        duration_pb2.Duration(seconds=10**12),
    ):
        with pytest.raises(ValueError, match="bounds"):
            duration_us_of(wrong)
    with pytest.raises(ValueError, match="bounds"):
        instant_of(timestamp_pb2.Timestamp(seconds=10**12))


def test_the_contract_numbers_states_as_the_core_does() -> None:
    assert {status.word: int(status) for status in ExecutionStatus} == STATUS_NUMBERS
    assert all(int(status) == number for status, number in NODE_STATUS.items())


def _record(**fields: Any) -> ExecutionRecord:
    start = NewExecution(
        execution_id=ID,
        organization_id="acme",
        user_id="ann",
        workflow_id=ID,
        workflow_name="w",
        version_id=ID,
        version=2,
        mode="api",
        priority="high",
        created_at=1_700_000_000_000_000,
        timeout_us=60_000_000,
        key_root=ID,
        root_execution_id=ID,
        input=b'{"big":"' + b"x" * 70_000 + b'"}',
    )
    return ExecutionRecord(start, open=False, **fields)


def test_a_failed_execution_has_the_specifications_error_format() -> None:
    error = NodeError("NETWORK", "no \ud800answer", b'{"host":"h"}', timeout="", node=0)
    record = _record(
        status="failed", started_at=1_700_000_001_000_000, completed_at=1_700_000_003_500_000, sequence=9
    )
    message = execution_message(
        ShownExecution(record, b"", Blame(error, "call", 3, 3)), payload_bytes_max=65_536
    )
    assert (message.duration_ms, message.sequence, message.workflow_version) == (2500, 9, 2)
    assert not message.WhichOneof("input_value"), "over the bound of a list"
    assert message.input_size_bytes > 70_000
    assert message.error.code == 14
    info = error_details_pb2.ErrorInfo.FromString(message.error.details[0].value)
    assert info.reason == "NETWORK"
    assert dict(info.metadata) == {
        "executionId": message.id,
        "workflowId": message.workflow_id,
        "errorType": "network_error",
        "retryable": "true",
        "failedNodeId": "call",
        "retryCount": "2",
        "maxRetries": "2",
    }
    details = struct_pb2.Value.FromString(message.error.details[1].value)
    assert value_to_plain(details) == {"host": "h"}
    assert error_type_word("CARD_DECLINED") == "CARD_DECLINED"
    assert orjson.loads(record.start.input or b"")["big"]
