"""Collects what callbacks bring, and waits for it without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

WAIT_SECONDS = 20.0

T = TypeVar("T")


class Collected(Generic[T]):
    """A list that says when something was added."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self._more = asyncio.Event()

    def add(self, item: T) -> None:
        """Takes one."""
        self.items.append(item)
        self._more.set()

    async def until(self, enough: Callable[[list[T]], bool]) -> list[T]:
        """The items so far, as soon as they are enough."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not enough(self.items):
                self._more.clear()
                await self._more.wait()
        return list(self.items)

    async def count(self, wanted: int) -> list[T]:
        """The items, as soon as there are so many."""
        return await self.until(lambda items: len(items) >= wanted)

    async def first(self) -> T:
        """The first item."""
        return (await self.count(1))[0]
