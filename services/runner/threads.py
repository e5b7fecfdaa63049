"""Threads for synchronous handlers: cheaper than an executor, and completions reach the loop in batches."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Call = Callable[[], Any]
Done = Callable[[Any, BaseException | None], None]
_Job = tuple[Call, Done]


class HandlerThreads:
    """Runs calls in daemon threads, at most `threads_max`, started when needed and kept.

    `done(value, error)` of a call is called in the loop's thread. A call that never returns keeps its thread;
    threads are daemons, so it does not keep the process.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, threads_max: int) -> None:
        self._loop = loop
        self._threads_max = threads_max
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._ended: deque[tuple[Done, Any, BaseException | None]] = deque()
        self._told = False
        self._lock = threading.Lock()

    def submit(self, call: Call, done: Done) -> None:
        """Run `call` in a thread; called in the loop's thread."""
        self._busy += 1
        if self._busy > self._threads and self._threads < self._threads_max:
            self._threads += 1
            threading.Thread(target=self._work, name=f"handler-{self._threads}", daemon=True).start()
        self._jobs.put((call, done))

    def _work(self) -> None:
        while True:
            call, done = self._jobs.get()
            value: Any = None
            error: BaseException | None = None
            try:
                value = call()
            except BaseException as raised:  # whatever a handler raises is its result, SystemExit included
                error = raised
            self._tell(done, value, error)
            # A waiting thread must not keep the last value alive.
            del call, done, value, error

    def _tell(self, done: Done, value: Any, error: BaseException | None) -> None:
        with self._lock:
            self._ended.append((done, value, error))
            if self._told:
                return
            self._told = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            return  # the loop is closed: the process ends, nobody waits for this any more

    def _deliver(self) -> None:
        with self._lock:
            self._told = False
            ended, self._ended = self._ended, deque()
        for done, value, error in ended:
            self._busy -= 1
            try:
                done(value, error)
            except Exception as problem:  # the others of this batch ended as well, and must be heard of
                context = {"message": "the end of a call was not taken", "exception": problem}
                self._loop.call_exception_handler(context)
