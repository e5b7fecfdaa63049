"""What api hears on the bus: commit hints and heartbeats. Both only wake and inform; rows answer."""

from __future__ import annotations

from collections.abc import Callable

from services.adapters.bus import Bus, Handle
from services.adapters.clock import Clock
from services.adapters.log import get_logger
from services.adapters.nats import topology
from services.adapters.wire.hints import announced_types, decode_hint
from services.adapters.wire.tasks import WireError
from services.api.commanding import Commander
from services.api.ends import Ends
from services.api.metrics import ApiMetrics
from services.api.watches import Watches
from services.core.node_types import BUILT_IN_TASK_TYPES

SESSIONS_MAX = 1_000
TYPE_LIFETIME_SECONDS = 60.0

log = get_logger(__name__)


class Hearing:
    """Subscriptions of one api process."""

    def __init__(
        self,
        clock: Clock,
        bus: Bus,
        ends: Ends,
        watches: Watches,
        commander: Commander,
        metrics: ApiMetrics,
        missed: Callable[[], None],
        verdicts: Callable[[], None],
    ) -> None:
        """`missed` is called when hints were lost, `verdicts` when a commit may hold a verdict waited for."""
        self._clock = clock
        self._bus = bus
        self._ends = ends
        self._watches = watches
        self._commander = commander
        self._metrics = metrics
        self._missed = missed
        self._verdicts = verdicts
        self._numbers: dict[int, int] = {}
        self._types: dict[str, float] = {}
        self._handles: list[Handle] = []

    def open(self) -> None:
        """Begin to hear."""
        self._handles = [
            self._bus.subscribe(topology.COMMITS, self._commit),
            self._bus.subscribe(topology.BEAT, self._beat),
            self._bus.on_reconnected(self._missed),
        ]

    def close(self) -> None:
        """Hear nothing any more."""
        for handle in self._handles:
            handle.unsubscribe()
        self._handles = []

    def known_types(self) -> frozenset[str]:
        """Node types that living runners have announced, and those that every runner brings."""
        oldest = self._clock.monotonic() - TYPE_LIFETIME_SECONDS
        return BUILT_IN_TASK_TYPES | {name for name, heard in self._types.items() if heard >= oldest}

    def _commit(self, data: bytes, reply: str, subject: str) -> None:
        try:
            hint = decode_hint(data)
        except WireError as error:
            log.warning("malformed message", subject=subject, error=str(error))
            return
        self._metrics.hints.inc()
        if hint.ended:
            self._ends.hint(hint.ended)
        self._watches.hint(hint.touched)
        if self._commander.is_waiting and self._commander.concerns(hint.touched):
            self._verdicts()
        self._count(hint.session, hint.number)

    def _count(self, session: int, number: int) -> None:
        last = self._numbers.get(session)
        if last is not None and number > last + 1:
            self._metrics.hint_gaps.inc()
            self._missed()
        if last is None and len(self._numbers) >= SESSIONS_MAX:
            self._numbers.clear()
        if last is None or number > last:
            self._numbers[session] = number

    def _beat(self, data: bytes, reply: str, subject: str) -> None:
        try:
            types = announced_types(data)
        except WireError as error:
            log.warning("malformed message", subject=subject, error=str(error))
            return
        heard = self._clock.monotonic()
        for name in types:
            self._types[name] = heard
