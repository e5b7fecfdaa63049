"""A client under faults: starts executions, cancels and watches, and keeps a journal of what it was told.

A request is repeated with its key until it is answered. What is in the journal as acknowledged must be true for ever.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from tests.faults.graphs import Case
from tests.support.client import Client
from tests.support.waiting import pause
from weconnect.executions.v1.execution_pb2 import Execution
from weconnect.executions.v1.execution_service_pb2 import CancelExecutionResponse, NodeChange

T = TypeVar("T")
ATTEMPT_SECONDS = 8.0
PAUSE_SECONDS = 0.1
WATCH_SECONDS = 400.0
REPEAT_SHARE = 0.15
WATCH_SHARE = 0.1
# What a client may see of services that are killed; anything else is a fault of ours.
EXPECTED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


class Journal:
    """Every request and answer, on the disk before the client goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, key: str, **facts: Any) -> None:
        """One line."""
        line = {"at": asyncio.get_running_loop().time(), "kind": kind, "key": key, **facts}
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")
        os.fsync(self._descriptor)

    def lines(self, *kinds: str) -> list[dict[str, Any]]:
        """Lines of these kinds."""
        found = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [line for line in found if line["kind"] in kinds]

    def close(self) -> None:
        """Write no more."""
        os.close(self._descriptor)


@dataclass(slots=True)
class Started:
    """One execution of the load: what was asked for, and what was answered."""

    key: str
    case: Case
    execution_id: str = ""
    cancelled: bool = False
    changes: list[NodeChange] | None = None
    watched_to_its_end: bool = False
    resumed: int = 0


@dataclass(slots=True)
class Load:
    """Starts cases over a time; `wrong` collects answers that may not be."""

    client: Client
    journal: Journal
    rng: random.Random
    prefix: str
    started: list[Started] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def run(self, cases: Iterable[Case], seconds: float) -> None:
        """Start all cases evenly over `seconds`; returns once each start and each cancel is acknowledged."""
        work: list[asyncio.Task[None]] = []
        cases = list(cases)
        began = asyncio.get_running_loop().time()
        for number, case in enumerate(cases):
            one = Started(f"{self.prefix}-{number}", case)
            self.started.append(one)
            draws = (self.rng.random(), self.rng.random())
            work.append(
                asyncio.ensure_future(self._one(one, draws[0] < REPEAT_SHARE, draws[1] < WATCH_SHARE))
            )
            due = began + seconds * (number + 1) / len(cases)
            await pause(max(0.0, due - asyncio.get_running_loop().time()))
        await asyncio.gather(*work)

    @property
    def acknowledged(self) -> dict[str, Started]:
        """By execution id."""
        return {one.execution_id: one for one in self.started if one.execution_id}

    async def _one(self, one: Started, repeat: bool, watch: bool) -> None:
        await self._start(one)
        watching = asyncio.ensure_future(self._watch(one)) if watch else None
        if repeat:
            await self._start(one)
        if one.case.cancel_after_s is not None:
            await pause(one.case.cancel_after_s)
            await self._cancel(one)
        if watching is not None:
            await watching

    async def _start(self, one: Started) -> None:
        self.journal.write("start", one.key, workflow=one.case.workflow)
        execution: Execution = await self._insist(
            one.key,
            lambda: self.client.start(
                one.case.workflow, one.case.input, idempotency_key=one.key, labels={"load": self.prefix}
            ),
        )
        self.journal.write("acknowledged", one.key, execution_id=execution.id)
        if one.execution_id not in ("", execution.id):
            self.wrong.append(f"{one.key}: the same key means {one.execution_id}, then {execution.id}")
        one.execution_id = execution.id

    async def _cancel(self, one: Started) -> None:
        self.journal.write("cancel", one.key)
        answer: CancelExecutionResponse = await self._insist(
            one.key,
            lambda: self.client.cancel(one.execution_id, reason="campaign", request_id=f"cancel-{one.key}"),
        )
        self.journal.write("cancelled", one.key, status=answer.execution.status)
        one.cancelled = True

    async def _watch(self, one: Started) -> None:
        """Follow it to its end, resuming where the stream broke."""
        one.changes, sequence = [], 0
        while not one.watched_to_its_end:
            try:
                async for message in self.client.watch(
                    one.execution_id, timeout_s=WATCH_SECONDS, after_sequence=sequence
                ):
                    if message.sequence < sequence:
                        self.wrong.append(
                            f"{one.key}: the watch went back to {message.sequence} from {sequence}"
                        )
                    one.changes += message.node_changes
                    sequence = message.sequence
                    one.watched_to_its_end = message.final
            except grpc.aio.AioRpcError as error:
                self._judge(one.key, error)
            if not one.watched_to_its_end:
                one.resumed += 1
                await pause(PAUSE_SECONDS)

    async def _insist(self, key: str, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await asyncio.wait_for(call(), ATTEMPT_SECONDS)
            except TimeoutError:
                self.journal.write("silence", key)
            except grpc.aio.AioRpcError as error:
                self._judge(key, error)
                await pause(PAUSE_SECONDS * (1 + self.rng.random()))

    def _judge(self, key: str, error: grpc.aio.AioRpcError) -> None:
        self.journal.write("refused", key, code=error.code().name, details=error.details())
        if error.code() not in EXPECTED:
            self.wrong.append(f"{key}: {error.code().name}: {error.details()}")
            if len(self.wrong) > 50:
                raise error
