"""The one place that maps errors to google.rpc.Status. Nothing else of an error ever reaches a client.

Each status has exactly one `ErrorInfo` (AIP-193) and the details that go with its kind. Texts of drivers, SQL
and stacks stay here: what is not a `Refusal` becomes INTERNAL with an id that finds it in the logs.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2 as details  # type: ignore[import-untyped]
from google.rpc import status_pb2

from services.core.refusals import Kind, Refusal
from services.core.units import SECOND

DOMAIN = "executions.weconnect"
DETAILS_KEY = "grpc-status-details-bin"
# Trailing metadata over 8 KiB is refused by clients; base64 makes the details a third longer.
STATUS_BYTES_MAX = 5_500
MESSAGE_CHARACTERS_MAX = 1_000
PROBLEM_CHARACTERS_MAX = 500

_CODES = {kind: grpc.StatusCode[kind.value] for kind in Kind}


@dataclass(frozen=True, slots=True)
class Failure:
    """What a client is told: code, message and the serialized google.rpc.Status."""

    code: grpc.StatusCode
    message: str
    status: bytes

    @property
    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """Metadata that carries the details."""
        return ((DETAILS_KEY, self.status),)


def failure_of(refusal: Refusal) -> Failure:
    """Status of a refusal."""
    code = _CODES[refusal.kind]
    text = _clipped(refusal.message, MESSAGE_CHARACTERS_MAX)
    status = status_pb2.Status(code=code.value[0], message=text)
    info = details.ErrorInfo(reason=refusal.reason, domain=DOMAIN)
    for key, value in refusal.metadata.items():
        info.metadata[key] = _clipped(value, PROBLEM_CHARACTERS_MAX)
    rest = list(_details_of(refusal))
    status.details.append(_packed(info))
    room = STATUS_BYTES_MAX - status.ByteSize()
    for detail in rest:
        packed = _packed(_fitted(detail, room))
        room -= packed.ByteSize() + 4
        status.details.append(packed)
    return Failure(code, text, status.SerializeToString())


def internal_failure(request_id: str) -> Failure:
    """Status of an error nobody expected; the log has it under the same id."""
    text = f"internal error; quote {request_id} when you report it"
    status = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message=text)
    info = details.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"faultId": request_id})
    status.details.append(_packed(info))
    return Failure(grpc.StatusCode.INTERNAL, text, status.SerializeToString())


def _details_of(refusal: Refusal) -> list[message.Message]:
    found: list[message.Message] = []
    if refusal.kind in {Kind.INVALID_ARGUMENT, Kind.OUT_OF_RANGE} and refusal.problems:
        found.append(_bad_request(refusal))
    elif refusal.kind is Kind.FAILED_PRECONDITION:
        subject = refusal.resource[1] if refusal.resource else ""
        violations = [
            details.PreconditionFailure.Violation(
                type=problem.reason, subject=problem.path or subject, description=_text(problem.message)
            )
            for problem in refusal.problems
        ]
        found.append(details.PreconditionFailure(violations=violations))
    elif refusal.kind is Kind.RESOURCE_EXHAUSTED:
        subject = refusal.resource[1] if refusal.resource else refusal.reason
        violation = details.QuotaFailure.Violation(subject=subject, description=_text(refusal.message))
        found.append(details.QuotaFailure(violations=[violation]))
    elif refusal.kind in {Kind.NOT_FOUND, Kind.ALREADY_EXISTS} and refusal.resource:
        resource_type, name = refusal.resource
        found.append(
            details.ResourceInfo(
                resource_type=resource_type,
                resource_name=_clipped(name, PROBLEM_CHARACTERS_MAX),
                description=_text(refusal.message),
            )
        )
    if refusal.retry_after_us:
        seconds, rest_us = divmod(refusal.retry_after_us, SECOND)
        found.append(
            details.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds, nanos=rest_us * 1000))
        )
    return found


def _bad_request(refusal: Refusal) -> details.BadRequest:
    return details.BadRequest(
        field_violations=[
            details.BadRequest.FieldViolation(
                field=_text(problem.path), description=_text(problem.message), reason=problem.reason
            )
            for problem in refusal.problems
        ]
    )


def _fitted(detail: message.Message, room: int) -> message.Message:
    """Drop violations from the end until the detail fits; the message of the status counts them all."""
    if isinstance(detail, details.BadRequest):
        size = 0
        for kept, violation in enumerate(detail.field_violations):
            size += violation.ByteSize() + 4
            if size > room - 64 and kept:
                del detail.field_violations[kept:]
                break
    return detail


def _packed(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _text(text: str) -> str:
    return _clipped(text, PROBLEM_CHARACTERS_MAX)


def _clipped(text: str, characters: int) -> str:
    """Text that protobuf takes (no lone surrogates), not over-long."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= characters else text[: characters - 1] + "…"
