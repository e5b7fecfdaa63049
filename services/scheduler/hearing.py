"""What the scheduler hears on the bus, turned into inputs. Whatever is malformed is logged and dropped."""

from __future__ import annotations

from collections.abc import Callable

from services.adapters.bus import Bus, Handle
from services.adapters.log import get_logger
from services.adapters.nats import topology
from services.adapters.wire.tasks import (
    WireError,
    decode_ask,
    decode_beat,
    decode_log_chunk,
    decode_nudge,
    decode_results,
)
from services.core.errors import NodeError
from services.core.ids import shard_of
from services.core.inputs import Begin, Input, TaskFailed, TaskReturned, TaskSucceeded
from services.core.tasks import Result
from services.scheduler.items import AskReply, Item, ResultReply
from services.scheduler.logs import LogWriter
from services.scheduler.runners import Runners

log = get_logger(__name__)


class Hearing:
    """Subscriptions: broadcasts for all, and those of the shards that are ours."""

    def __init__(
        self,
        bus: Bus,
        owned: set[int],
        put: Callable[[Item], None],
        runners: Runners,
        logs: LogWriter,
        read_inbox: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._owned = owned
        self._put = put
        self._runners = runners
        self._logs = logs
        self._read_inbox = read_inbox
        self._shards: dict[int, Handle] = {}
        self._broadcasts: list[Handle] = []

    def open(self) -> None:
        """Hear what is said to all schedulers."""
        self._broadcasts = [
            self._bus.subscribe(topology.START, self._guarded(self._start)),
            self._bus.subscribe(topology.COMMAND, self._guarded(self._command)),
            self._bus.subscribe(topology.BEAT, self._guarded(self._beat)),
        ]

    def gained(self, shards: tuple[int, ...]) -> None:
        """Hear what is said to the owner of these shards."""
        handlers = {topology.RESULT: self._results, topology.ASK: self._ask, topology.LOG: self._log}

        def hear(data: bytes, reply: str, subject: str) -> None:
            handlers[topology.kind_of(subject)](data, reply)

        for shard in shards:
            if shard not in self._shards:
                self._shards[shard] = self._bus.subscribe(
                    topology.owner_subjects(shard), self._guarded_owner(hear)
                )

    def lost(self, shards: tuple[int, ...]) -> None:
        """Stop hearing it."""
        for shard in shards:
            handle = self._shards.pop(shard, None)
            if handle is not None:
                handle.unsubscribe()

    def close(self) -> None:
        """Hear nothing any more."""
        for handle in (*self._broadcasts, *self._shards.values()):
            handle.unsubscribe()
        self._broadcasts, self._shards = [], {}

    @staticmethod
    def _guarded(handle: Callable[[bytes], None]) -> Callable[[bytes, str, str], None]:
        def hear(data: bytes, reply: str, subject: str) -> None:
            try:
                handle(data)
            except WireError as error:
                log.warning("malformed message", subject=subject, error=str(error))

        return hear

    @staticmethod
    def _guarded_owner(handle: Callable[[bytes, str, str], None]) -> Callable[[bytes, str, str], None]:
        def hear(data: bytes, reply: str, subject: str) -> None:
            try:
                handle(data, reply, subject)
            except WireError as error:
                log.warning("malformed message", subject=subject, error=str(error))

        return hear

    def _start(self, data: bytes) -> None:
        for execution_id in decode_nudge(data).execution_ids:
            if shard_of(execution_id) in self._owned:
                self._put(Item(execution_id, Begin()))

    def _command(self, data: bytes) -> None:
        if any(shard_of(execution_id) in self._owned for execution_id in decode_nudge(data).execution_ids):
            self._read_inbox()

    def _beat(self, data: bytes) -> None:
        self._runners.hear(decode_beat(data))

    def _results(self, data: bytes, reply: str) -> None:
        batch = decode_results(data)
        for result in batch.results:
            happened = _input_of(result, batch.runner_id)
            self._put(Item(result.execution_id, happened, ResultReply(batch.runner_id, result.token)))

    def _ask(self, data: bytes, reply: str) -> None:
        ask = decode_ask(data)
        self._put(Item(ask.execution_id, None, AskReply(ask.runner_id, ask.token, ask.node, ask.attempt)))

    def _log(self, data: bytes, reply: str) -> None:
        self._logs.put(decode_log_chunk(data), reply)


def _input_of(result: Result, runner_id: str) -> Input:
    if result.returned:
        return TaskReturned(result.node, result.attempt, runner_id)
    failure = result.failure
    if failure is None:
        return TaskSucceeded(
            result.node,
            result.attempt,
            result.output or b"",
            runner_id,
            result.started_at,
            result.ended_at,
            result.cpu_seconds,
            result.memory_bytes,
        )
    error = NodeError(
        failure.type,
        failure.message,
        failure.details,
        failure.retryable,
        timeout=_timeout_of(failure.type, failure.details),
        retry_after_us=failure.retry_after_us,
        node=result.node,
    )
    return TaskFailed(result.node, result.attempt, error, runner_id, result.started_at, result.ended_at)


def _timeout_of(error_type: str, details: bytes) -> str:
    """Name of the timeout that a runner kept; its details name it."""
    if error_type != "TIMEOUT":
        return ""
    return "heartbeat" if b"heartbeat" in details else "start_to_close"
