"""Who may call: identity, request id and deadline of a call, and how many calls are served at once.

Access is denied by default: a method that is not in `PUBLIC_METHODS` needs a valid token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from services.adapters.clock import Clock
from services.adapters.grpc.calls import NOBODY, Call, enter_call
from services.adapters.grpc.metrics import ServerMetrics
from services.adapters.grpc.streams import OpenStreams
from services.adapters.ids import new_request_id
from services.adapters.tokens import Identity, InvalidToken, TokenVerifier
from services.core.refusals import Refusal, exhausted, role_missing, unauthenticated
from services.core.units import SECOND

UNARY_IN_FLIGHT_MAX = 10_000
STREAMS_OPEN_MAX = 10_000
REQUEST_ID_CHARACTERS_MAX = 64
# Methods that anybody may call.
PUBLIC_METHODS = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)


class Admission:
    """Lets calls in and counts them, for one server."""

    def __init__(
        self,
        verifier: TokenVerifier,
        clock: Clock,
        metrics: ServerMetrics,
        streams: OpenStreams,
        roles: Mapping[str, str],
    ) -> None:
        self._verifier = verifier
        self.clock = clock
        self._streams = streams
        self.roles = roles
        self.unary_in_flight = 0
        self._unary_gauge = metrics.in_flight.labels("unary")
        self._unary_gauge.set_function(lambda: self.unary_in_flight)
        metrics.in_flight.labels("stream").set_function(lambda: len(streams))

    def admit(self, path: str, role: str, context: Any, seconds: float) -> Call:
        """Who calls, with which request id, until when. Raises Refusal."""
        authorization = request_id = ""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                authorization = value
            elif key == "x-request-id":
                request_id = value
        if not 0 < len(request_id) <= REQUEST_ID_CHARACTERS_MAX or not request_id.isprintable():
            request_id = new_request_id()
        remaining = context.time_remaining()
        deadline = self.clock.monotonic() + (seconds if remaining is None else max(remaining, 0.0))
        structlog.contextvars.bind_contextvars(request_id=request_id)
        enter_call(Call(NOBODY, request_id, deadline, self.clock))
        identity = NOBODY
        if path not in PUBLIC_METHODS:
            identity = self._identify(authorization)
            if role and role not in identity.roles:
                raise role_missing(role)
        call = Call(identity, request_id, deadline, self.clock)
        enter_call(call)
        return call

    def _identify(self, authorization: str) -> Identity:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            message = "send a token as `authorization: Bearer …`"
            raise unauthenticated("TOKEN_MISSING", message, {"header": "authorization"})
        try:
            return self._verifier.verify(token.strip())
        except InvalidToken as error:
            raise unauthenticated(error.reason, error.message, error.metadata) from None

    def enter_unary(self) -> None:
        """Count a unary call in. Raises Refusal when too many are being served."""
        if self.unary_in_flight >= UNARY_IN_FLIGHT_MAX:
            raise exhausted("unary_in_flight_max", "the server is busy; try again", SECOND)
        self.unary_in_flight += 1

    def leave_unary(self) -> None:
        """Count a unary call out."""
        self.unary_in_flight -= 1

    def enter_stream(self, identity: Identity) -> None:
        """Register the running task as a stream. Raises Refusal when too many are open."""
        if len(self._streams) >= STREAMS_OPEN_MAX:
            raise exhausted("streams_open_max", "the server has too many open streams; try again", SECOND)
        self._streams.add(identity.expires_at)

    def leave_stream(self) -> Refusal | None:
        """Forget the running task's stream; the refusal that was to end it, if one was."""
        return self._streams.remove()

    def writing(self, active: bool) -> None:
        """Note that the running task's stream begins or ends a write."""
        self._streams.writing(active)
