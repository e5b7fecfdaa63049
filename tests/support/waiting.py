"""Waits for what only looking can tell (rows, other processes' state), within a bound."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
LOOK_EVERY_SECONDS = 0.05


@overload
async def until(
    look: Callable[[], Awaitable[T]], what: str, seconds: float = 30.0, every: float = LOOK_EVERY_SECONDS
) -> T: ...


@overload
async def until(
    look: Callable[[], T], what: str, seconds: float = 30.0, every: float = LOOK_EVERY_SECONDS
) -> T: ...


async def until(
    look: Callable[[], Any], what: str, seconds: float = 30.0, every: float = LOOK_EVERY_SECONDS
) -> Any:
    """What `look` returns as soon as it is true. Raises AssertionError after `seconds`, saying `what`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        seen = look()
        found = await seen if inspect.isawaitable(seen) else seen
        if found:
            return found
        if loop.time() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen {found!r}")
        await pause(every)


async def pause(seconds: float) -> None:
    """Let time pass where time itself is the input: how long a fault lasts, the rate of a load."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)
