"""Requests as plain values: every field that is wrong is found, all at once."""

from __future__ import annotations

from typing import Any

from services.adapters.wire.json_values import JsonRefused, dump_json, parse_json, struct_to_plain
from services.adapters.wire.scalars import (
    MODE_WORDS,
    PRIORITY_WORDS,
    STATUS_WORDS,
    duration_us_of,
    instant_of,
)
from services.api.starting import REJECT, RESTART_AFTER_FAILURE, RETURN_EXISTING, Wanted
from services.api.versions import WorkflowChoice
from services.core.definition.duration import duration_text
from services.core.errors import Problem
from services.core.ids import parse_uuid
from services.core.refusals import Kind, Refusal, invalid, over_limit
from services.core.units import KIB, SECOND
from weconnect.executions.v1 import execution_service_pb2 as pb

NAME_CHARACTERS_MAX = 128
REASON_CHARACTERS_MAX = 1024
LABELS_MAX = 32
LABEL_NAME_CHARACTERS_MAX = 63
LABEL_VALUE_CHARACTERS_MAX = 255
VALUE_INLINE_BYTES_MAX = 256 * KIB
WAIT_US_MAX = 60 * SECOND
EMPTY_OBJECT = b"{}"

_POLICIES = {0: RETURN_EXISTING, 1: RETURN_EXISTING, 2: REJECT, 3: RESTART_AFTER_FAILURE}


class Fields:
    """Reads fields and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, path: str, reason: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, reason, message))

    def finish(self) -> None:
        """Raise a Refusal with all problems when there is one."""
        if self.problems:
            raise invalid(self.problems)

    def uuid(self, path: str, text: str, *, required: bool = True) -> bytes:
        """16 raw bytes; empty when it is wrong or absent."""
        if not text:
            if required:
                self.wrong(path, "REQUIRED", "it is required")
            return b""
        try:
            return parse_uuid(text)
        except ValueError:
            self.wrong(path, "INVALID_UUID", "it is not a UUID in canonical text")
            return b""

    def text(self, path: str, text: str, longest: int) -> str:
        """Text without NUL, not too long."""
        if len(text) > longest:
            self.wrong(path, "TOO_LONG", f"it has {len(text)} characters, more than {longest}")
        elif "\0" in text:
            self.wrong(path, "NUL", "it holds the character NUL")
        return text

    def word(self, path: str, number: int, words: dict[int, str], default: str) -> str:
        """Word of an enum's value; 0 stands for the default."""
        if number == 0:
            return default
        word = words.get(number)
        if word is None:
            self.wrong(path, "UNKNOWN_VALUE", f"{number} is not a value of this enum")
            return default
        return word

    def words(self, path: str, numbers: Any, words: dict[int, str]) -> frozenset[str]:
        """Words of a repeated enum."""
        found = set()
        for index, number in enumerate(numbers):
            word = words.get(number)
            if word is None:
                self.wrong(f"{path}[{index}]", "UNKNOWN_VALUE", f"{number} is not a value to filter by")
            else:
                found.add(word)
        return frozenset(found)

    def instant(self, message: Any, field: str) -> int | None:
        """Instant of a Timestamp field in microseconds, None when absent."""
        if not message.HasField(field):
            return None
        try:
            return instant_of(getattr(message, field))
        except ValueError as error:
            self.wrong(field, "OUT_OF_RANGE", str(error))
            return None

    def duration(self, message: Any, field: str, lowest: int, highest: int) -> int | None:
        """Duration field in microseconds between two bounds, None when absent."""
        if not message.HasField(field):
            return None
        try:
            duration = duration_us_of(getattr(message, field))
        except ValueError as error:
            self.wrong(field, "OUT_OF_RANGE", str(error))
            return None
        if not lowest <= duration <= highest:
            bounds = f"from {duration_text(lowest)} to {duration_text(highest)}"
            self.wrong(field, "OUT_OF_RANGE", f"it must be {bounds}")
            return None
        return duration

    def labels(self, labels: Any) -> dict[str, str]:
        """Labels within their bounds."""
        found = dict(labels)
        if len(found) > LABELS_MAX:
            self.wrong("labels", "TOO_MANY", f"there are {len(found)} labels, more than {LABELS_MAX}")
        for name, value in found.items():
            path = f"labels.{name[:LABEL_NAME_CHARACTERS_MAX]}"
            if not name:
                self.wrong("labels", "REQUIRED", "a label needs a name")
            self.text(path, name, LABEL_NAME_CHARACTERS_MAX)
            self.text(path, value, LABEL_VALUE_CHARACTERS_MAX)
        return found

    def choice(self, request: Any) -> WorkflowChoice:
        """Workflow and version that a request names."""
        workflow_id: bytes | None = None
        name = ""
        match request.WhichOneof("workflow"):
            case "workflow_id":
                workflow_id = self.uuid("workflow_id", request.workflow_id)
            case "workflow_name":
                name = self.text("workflow_name", request.workflow_name, NAME_CHARACTERS_MAX)
                if not name:
                    self.wrong("workflow_name", "REQUIRED", "it must not be empty")
            case _:
                self.wrong("workflow_name", "REQUIRED", "workflow_name or workflow_id is required")
        version, alias = 0, ""
        match request.WhichOneof("version_choice"):
            case "version":
                version = request.version
                if version < 1:
                    self.wrong("version", "OUT_OF_RANGE", "versions are numbered from 1")
            case "alias":
                alias = self.text("alias", request.alias, NAME_CHARACTERS_MAX)
            case _:
                pass
        return WorkflowChoice(workflow_id, name, max(version, 0), alias)


def read_start(request: pb.StartExecutionRequest, timeout_us_max: int) -> tuple[Wanted, float]:
    """A start, and for how many seconds to wait for its end. Raises Refusal with all that is wrong."""
    fields = Fields()
    choice = fields.choice(request)
    input_json, value = _read_input(fields, request)
    policy = _POLICIES.get(request.idempotency_policy)
    if policy is None:
        fields.wrong("idempotency_policy", "UNKNOWN_VALUE", "it is not a value of this enum")
    wanted = Wanted(
        choice=choice,
        input_json=input_json,
        input=value,
        mode=fields.word("mode", request.mode, MODE_WORDS, "manual"),
        priority=fields.word("priority", request.priority, PRIORITY_WORDS, "normal"),
        timeout_us=fields.duration(request, "timeout", SECOND, timeout_us_max),
        key=fields.text("idempotency_key", request.idempotency_key, NAME_CHARACTERS_MAX),
        policy=policy or RETURN_EXISTING,
        labels=fields.labels(request.labels),
    )
    wait_us = fields.duration(request, "wait", 0, WAIT_US_MAX) or 0
    fields.finish()
    return wanted, wait_us / SECOND


def _read_input(fields: Fields, request: pb.StartExecutionRequest) -> tuple[bytes, Any]:
    """Input as JSON bytes and parsed. A value that is too large is a refusal of its own."""
    try:
        match request.WhichOneof("input_value"):
            case "input_json":
                data = request.input_json
                _check_size("input_json", data)
                return data, parse_json(data)
            case "input":
                value = struct_to_plain(request.input)
                data = dump_json(value)
                _check_size("input", data)
                return data, value
            case _:
                return EMPTY_OBJECT, {}
    except JsonRefused as refused:
        fields.wrong(request.WhichOneof("input_value") or "input", "INVALID_JSON", str(refused))
        return EMPTY_OBJECT, {}


def _check_size(path: str, data: bytes) -> None:
    if len(data) > VALUE_INLINE_BYTES_MAX:
        raise over_limit(path, "value_inline_bytes_max", VALUE_INLINE_BYTES_MAX, len(data), reason="RESOURCE")


def order_of(fields: Fields, text: str, known: dict[str, Any]) -> Any:
    """Meaning of an `order_by`; empty stands for the first known."""
    wanted = " ".join(text.split())
    if wanted in known:
        return known[wanted]
    fields.wrong(
        "order_by", "UNKNOWN_VALUE", f"it must be one of: {', '.join(word for word in known if word)}"
    )
    return known[""]


def full_view(number: int, default_full: bool) -> bool:
    """Whether payloads are wanted."""
    return default_full if number == 0 else number == 2


def filter_words() -> tuple[dict[int, str], dict[int, str]]:
    """Words that executions are filtered by: statuses and modes."""
    return STATUS_WORDS, MODE_WORDS


def wrong_state(execution_id: str, status: str, reason: str) -> Refusal:
    """A command that does not fit the execution's state."""
    word = status.upper()
    return Refusal(
        Kind.FAILED_PRECONDITION,
        reason,
        f"execution {execution_id} is {word}",
        metadata={"executionId": execution_id, "status": word},
        problems=[Problem(f"executions/{execution_id}", reason, f"its status is {word}")],
    )
