"""What a runner has in hand, and the slots it takes."""

from __future__ import annotations

import logging
from collections.abc import Callable

from services.adapters.bus import DeliveryCallback
from services.adapters.nats.delivery import NatsDelivery

logger = logging.getLogger(__name__)

OVERFLOW_DELAY_SECONDS = 0.1
"""When a task that came over the bound of slots may be delivered again."""
FAILED_DELAY_SECONDS = 1.0
"""When a task whose delivery raised may be delivered again."""


class Slots:
    """Counts slots and keeps deliveries until they are settled."""

    def __init__(self, size: int, on_delivery: DeliveryCallback, on_change: Callable[[], None]) -> None:
        """`on_change` is called when slots were freed or taken."""
        self.size = size
        self.taken = 0
        self.closed = False
        self.waiting: dict[NatsDelivery, None] = {}
        """Delivered and not begun."""
        self.begun: dict[NatsDelivery, None] = {}
        """Begun and not settled."""
        self._on_delivery = on_delivery
        self._on_change = on_change

    def deliver(self, delivery: NatsDelivery) -> None:
        """Hands a task over. One that comes too late, or over the bound, is given back at once."""
        self.taken += 1
        if self.closed or self.taken > self.size:
            delivery.nak(0.0 if self.closed else OVERFLOW_DELAY_SECONDS)
            return
        self.waiting[delivery] = None
        try:
            self._on_delivery(delivery)
        except Exception:
            logger.exception("delivery failed")
            if not delivery.settled:
                delivery.nak(FAILED_DELAY_SECONDS)

    def close(self) -> list[NatsDelivery]:
        """Gives back what is not begun, and everything that still comes; returns what is begun."""
        self.closed = True
        for delivery in list(self.waiting):
            delivery.nak()
        return list(self.begun)

    def occupy(self, slots: int) -> None:
        """A delivery takes more (or fewer) slots than it was counted with."""
        self.taken += slots
        self._on_change()

    def vacate(self, slots: int) -> None:
        """A delivery's slots are free."""
        self.taken -= slots
        self._on_change()

    def begin(self, delivery: NatsDelivery) -> None:
        """A delivery is being run."""
        if self.waiting.pop(delivery, delivery) is None:
            self.begun[delivery] = None

    def settle(self, delivery: NatsDelivery) -> None:
        """A delivery is settled."""
        self.waiting.pop(delivery, None)
        self.begun.pop(delivery, None)
