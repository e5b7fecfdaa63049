"""Threads of synchronous handlers: the end of each call is heard of."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from services.runner.threads import HandlerThreads


async def test_an_end_that_is_not_taken_keeps_no_other_from_being_heard() -> None:
    """Ends reach the loop in batches; those after the one that fails belong to other executions."""
    loop = asyncio.get_running_loop()
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    threads = HandlerThreads(loop, 4)
    heard, all_heard = [], asyncio.Event()
    together = threading.Barrier(3)

    def done(value: Any, error: BaseException | None) -> None:
        heard.append(value)
        if len(heard) == 3:
            all_heard.set()
        raise ValueError("not taken")

    try:
        for _ in range(3):
            threads.submit(together.wait, done)
        await asyncio.wait_for(all_heard.wait(), 10)
    finally:
        loop.set_exception_handler(None)
    assert sorted(heard) == [0, 1, 2]
    assert len(problems) == 3
