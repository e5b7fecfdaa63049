"""A session that is over is closed, whoever finds that out first."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from services.adapters.clock import FixedClock
from services.adapters.postgres.sessions import SessionStore
from services.core.records import SessionRow
from services.scheduler.ownership import Identity, Ownership
from services.scheduler.writer import Writer


class Sessions:
    """Sessions whose closing takes until the test lets it happen."""

    def __init__(self) -> None:
        self.closed: list[int] = []
        self.closing = asyncio.Event()
        self.let = asyncio.Event()

    async def open(self, holder: str, address: str, events_version: int) -> SessionRow:
        """The next session."""
        return SessionRow(1, holder, address, events_version, 0)

    async def renew(self, session: int) -> int | None:
        """It has ended."""
        return None

    async def expired(self) -> list[int]:
        """None."""
        return []

    async def close_own(self, session: int) -> None:
        """Slowly."""
        self.closing.set()
        await self.let.wait()
        self.closed.append(session)


class NoWriter:
    """Writes nothing."""

    def open(self, *_: Any) -> None:
        """Nothing to write."""

    def shut(self) -> None:
        """Nothing to stop."""


async def test_two_duties_may_close_the_same_session_at_once() -> None:
    sessions = Sessions()
    ownership = Ownership(
        FixedClock(),
        cast("SessionStore", sessions),
        "",
        Identity("a", "a:1"),
        cast("Writer", NoWriter()),
        set(),
        lambda _: None,
        lambda _: None,
    )
    await ownership.renew()
    ownership.fenced("commits_pkey")
    duties = [asyncio.ensure_future(duty()) for duty in (ownership.balance, ownership.balance)]
    await sessions.closing.wait()
    sessions.let.set()
    assert await asyncio.gather(*duties) == [{}, {}]
    assert set(sessions.closed) == {1}
    assert await ownership.renew() == {"opened": 1}
