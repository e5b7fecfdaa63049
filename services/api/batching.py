"""Answers single questions with one query for all that were asked while the query before was in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

KEYS_MAX = 500


class Batcher(Generic[KeyT, ValueT]):
    """`get` asks for one key; `ask` is called with many and answers those it knows."""

    def __init__(self, ask: Callable[[list[KeyT]], Awaitable[Mapping[KeyT, ValueT]]]) -> None:
        self._ask = ask
        self._waiting: dict[KeyT, asyncio.Future[ValueT | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, key: KeyT) -> ValueT | None:
        """Value of a key, None when there is none. Raises what `ask` raises."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._run())
        # Whoever stops waiting must not take the answer from others who asked the same.
        return await asyncio.shield(future)

    async def _run(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:KEYS_MAX]
            futures = [self._waiting.pop(key) for key in keys]
            try:
                answers = await self._ask(keys)
            except Exception as error:
                for future in futures:
                    future.set_exception(error)
                    future.exception()  # those who left do not want to hear of it
                continue
            for key, future in zip(keys, futures, strict=True):
                future.set_result(answers.get(key))
