"""A task in the hands of a runner, and how it is settled on JetStream."""

from __future__ import annotations

from typing import Protocol

from services.adapters.bus import Bus

ACK = b"+ACK"
NAK = b"-NAK"
IN_PROGRESS = b"+WPI"
TERM = b"+TERM"

_PLAIN_TOKENS = 9
"""`$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`; the longer form has the
domain and the account's hash before the stream."""


class SlotKeeper(Protocol):
    """Who counts the slots that deliveries take."""

    def occupy(self, slots: int) -> None:
        """A delivery takes so many slots more than before."""

    def vacate(self, slots: int) -> None:
        """A delivery's slots are free."""

    def begin(self, delivery: NatsDelivery) -> None:
        """It is being run."""

    def settle(self, delivery: NatsDelivery) -> None:
        """It is settled."""


class NatsDelivery:
    """`adapters.bus.Delivery` over JetStream."""

    __slots__ = ("_bus", "_keeper", "_slots", "data", "reply", "settled", "subject")

    def __init__(self, bus: Bus, keeper: SlotKeeper, data: bytes, subject: str, reply: str) -> None:
        self._bus = bus
        self._keeper = keeper
        self._slots = 1
        self.data = data
        self.subject = subject
        self.reply = reply
        self.settled = False

    def _number(self, index: int) -> int:
        tokens = self.reply.split(".")
        return int(tokens[index if len(tokens) == _PLAIN_TOKENS else index + 2])

    @property
    def queue(self) -> str:
        """Name of the task queue it came from."""
        return self.subject[self.subject.rfind(".") + 1 :]

    @property
    def delivered_count(self) -> int:
        """How often it was delivered, this time included: from 1."""
        return self._number(4)

    @property
    def sequence(self) -> int:
        """Stream sequence."""
        return self._number(5)

    @property
    def timestamp(self) -> int:
        """When the stream stored it, microseconds, by the server's clock."""
        return self._number(7) // 1000

    def begin(self) -> None:
        """Says that it is being run: a drain leaves it alone from now on."""
        self._keeper.begin(self)

    def take(self, slots: int) -> None:
        """Says how many slots it takes in all, instead of one."""
        if self._slots and slots != self._slots:
            self._keeper.occupy(slots - self._slots)
            self._slots = slots

    def release(self) -> None:
        """Frees its slots, for the puller to fill; twice does nothing."""
        slots, self._slots = self._slots, 0
        if slots:
            self._keeper.vacate(slots)

    def ack(self) -> None:
        """Done: never again. Fire and forget; if it is lost the task is redelivered."""
        self._settle(ACK)

    def nak(self, delay: float = 0.0) -> None:
        """Gives it back, to be redelivered after `delay` seconds."""
        self._settle(NAK + b' {"delay": %d}' % int(delay * 1e9) if delay > 0 else NAK)

    def in_progress(self) -> None:
        """Starts AckWait anew."""
        if not self.settled:
            self._bus.publish(self.reply, IN_PROGRESS)

    def term(self) -> None:
        """Never redeliver it."""
        self._settle(TERM)

    def _settle(self, how: bytes) -> None:
        if self.settled:
            return
        self.settled = True
        self._bus.publish(self.reply, how)
        self._keeper.settle(self)
        self.release()
