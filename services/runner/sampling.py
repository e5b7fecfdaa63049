"""CPU time and memory of sampled attempts. Others pay nothing.

CPU is that of the handler's thread (sync) or of the coroutine's own steps (async); memory is the highest resident
size of the whole process seen while the attempt ran, since one process has one heap.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from time import thread_time
from typing import Any

import psutil

from services.runner.held import Held

READ_SECONDS = 0.05


class Sampler:
    """Measures attempts of tasks that ask for it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._process = psutil.Process()
        self._monotonic = monotonic
        self._read_at = float("-inf")
        self._resident_bytes = 0

    def begin(self, held: Held) -> None:
        """The attempt starts."""
        held.memory_bytes = self.resident_bytes()

    def end(self, held: Held) -> None:
        """The attempt has ended."""
        self.look(held)

    def look(self, held: Held) -> None:
        """Take memory into account now; called now and then while it runs, in any thread."""
        held.memory_bytes = max(held.memory_bytes, self.resident_bytes())

    def resident_bytes(self) -> int:
        """Resident memory of this process, read at most every `READ_SECONDS`: reading costs more than many tasks."""
        now = self._monotonic()
        if now - self._read_at >= READ_SECONDS:
            self._read_at = now
            self._resident_bytes = int(self._process.memory_info().rss)
        return self._resident_bytes

    def call(self, held: Held, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Call a synchronous handler in its thread."""
        if not held.task.sampled:
            return function(*arguments)
        began_s = thread_time()
        try:
            return function(*arguments)
        finally:
            held.cpu_seconds += thread_time() - began_s

    async def measured(self, held: Held, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await a handler's coroutine, adding up what its steps cost."""
        return await _steps(held, coroutine)


@types.coroutine
def _steps(held: Held, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731 - replaced by each step
    while True:
        began_s = thread_time()
        try:
            awaited = step()
        except StopIteration as stop:
            return stop.value
        finally:
            held.cpu_seconds += thread_time() - began_s
        try:
            value = yield awaited
            step = _sender(coroutine, value)
        except BaseException as error:  # also a cancellation: it belongs to the handler
            step = _thrower(coroutine, error)


def _sender(coroutine: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


def _thrower(coroutine: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)
