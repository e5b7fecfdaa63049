"""Why a request is refused, as values: the kind, a stable reason and everything a client needs to act.

Whoever finds the reason raises a `Refusal`; `adapters.grpc.errors` alone turns it into a gRPC status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from services.core.errors import Problem

INVALID_REQUEST = "INVALID_REQUEST"


class Kind(Enum):
    """What a refusal is at heart; names follow the canonical codes of google.rpc."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    UNIMPLEMENTED = "UNIMPLEMENTED"


class Refusal(Exception):
    """A request that is not served, and why.

    `reason` is UPPER_SNAKE and stable; `metadata` repeats every variable of the message; `problems` are the
    fields that are wrong, all at once; `resource` is (type, name) of what is missing or in the way;
    `retry_after_us` says when the same request may succeed, 0: unknown.
    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        problems: Iterable[Problem] = (),
        resource: tuple[str, str] | None = None,
        retry_after_us: int = 0,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})
        self.problems = tuple(problems)
        self.resource = resource
        self.retry_after_us = retry_after_us


def invalid(problems: Iterable[Problem], reason: str = INVALID_REQUEST, message: str = "") -> Refusal:
    """What the client sent is wrong; every problem with its field."""
    listed = tuple(problems)
    if not message:
        message = "; ".join(f"{p.path}: {p.message}" if p.path else p.message for p in listed[:3])
        if len(listed) > 3:
            message += f"; and {len(listed) - 3} more problems"
    metadata = {"problems": str(len(listed))}
    return Refusal(Kind.INVALID_ARGUMENT, reason, message, problems=listed, metadata=metadata)


def invalid_field(path: str, reason: str, message: str) -> Refusal:
    """One field is wrong; `reason` says how."""
    return Refusal(
        Kind.INVALID_ARGUMENT,
        INVALID_REQUEST,
        f"{path}: {message}",
        problems=[Problem(path, reason, message)],
        metadata={"field": path},
    )


def over_limit(
    path: str, limit: str, highest: int, actual: int, *, reason: str = "LIMIT_EXCEEDED"
) -> Refusal:
    """A field breaks a named limit of what one request may hold."""
    message = f"{actual} is over the limit {limit} of {highest}"
    return Refusal(
        Kind.INVALID_ARGUMENT,
        reason,
        f"{path}: {message}",
        problems=[Problem(path, reason, message)],
        metadata={"field": path, "limit": limit, "max": str(highest), "value": str(actual)},
    )


def not_found(resource_type: str, name: str) -> Refusal:
    """There is none, or it belongs to somebody else: a stranger cannot tell which."""
    return Refusal(
        Kind.NOT_FOUND,
        f"{resource_type.upper()}_NOT_FOUND",
        f"{resource_type} {name} does not exist",
        metadata={f"{resource_type}Id": name},
        resource=(resource_type, name),
    )


def wrong_state(
    reason: str, subject: str, message: str, metadata: Mapping[str, str] | None = None
) -> Refusal:
    """The request fits no transition from the state `subject` is in."""
    return Refusal(
        Kind.FAILED_PRECONDITION,
        reason,
        message,
        metadata=metadata,
        resource=("", subject),
        problems=[Problem(subject, reason, message)],
    )


def exhausted(
    limit: str, message: str, retry_after_us: int, metadata: Mapping[str, str] | None = None
) -> Refusal:
    """A bound of the installation or the organization is reached; nothing was written."""
    return Refusal(
        Kind.RESOURCE_EXHAUSTED,
        "OVERLOADED",
        message,
        metadata={"limit": limit, **(metadata or {})},
        retry_after_us=retry_after_us,
        resource=("limit", limit),
    )


def unavailable(
    reason: str, message: str, retry_after_us: int = 1_000_000, metadata: Mapping[str, str] | None = None
) -> Refusal:
    """The service cannot do it now; the same request may be sent again."""
    return Refusal(Kind.UNAVAILABLE, reason, message, retry_after_us=retry_after_us, metadata=metadata)


def not_supported(feature: str) -> Refusal:
    """This release does not do what was asked."""
    message = f"{feature} is not supported by this release"
    return Refusal(Kind.UNIMPLEMENTED, "NOT_SUPPORTED", message, metadata={"feature": feature})


def unauthenticated(reason: str, message: str, metadata: Mapping[str, str] | None = None) -> Refusal:
    """No valid token came with the request."""
    return Refusal(Kind.UNAUTHENTICATED, reason, message, metadata=metadata)


def role_missing(role: str) -> Refusal:
    """The token is valid but its roles do not allow this."""
    message = f"this needs the role {role}"
    return Refusal(Kind.PERMISSION_DENIED, "ROLE_MISSING", message, metadata={"role": role})
