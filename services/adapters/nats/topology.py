"""The one table of subjects, stream and consumers on NATS.

| subject                          | from            | to                        | carries                           |
| -------------------------------- | --------------- | ------------------------- | --------------------------------- |
| `wc.tasks.<queue>`               | scheduler       | one runner (work queue)   | a task                            |
| `wc.start`                       | api             | all schedulers            | nudge: executions were inserted   |
| `wc.command`                     | api             | all schedulers            | nudge: executions have commands   |
| `wc.owner.<shard>.result`        | runner          | the shard's owner         | results                           |
| `wc.owner.<shard>.log`           | runner          | the shard's owner         | log lines, as a request           |
| `wc.owner.<shard>.ask`           | runner          | the shard's owner         | "may I run this?"                 |
| `wc.beat`                        | runner          | schedulers, api, monitor  | what it runs, slots, queues       |
| `wc.runner.<runner id>.verdict`  | scheduler       | one runner                | results that are settled          |
| `wc.runner.<runner id>.answer`   | scheduler       | one runner                | answers to asks                   |
| `wc.runner.<runner id>.control`  | scheduler       | one runner                | cancellations, database time      |
| `wc.commits`                     | scheduler       | api, monitor              | hint: what a commit touched       |
| `wc.logs.<execution id>`         | owner           | api                       | live log lines                    |
| `wc.topology`                    | who re-created  | all                       | nothing: "the stream is new"      |

One JetStream stream, `WC_TASKS`, a work queue over `wc.tasks.>`, with one durable consumer `q_<queue>` for each
task queue. All else is core NATS.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.adapters.bus import QueueError, StreamState
from services.adapters.clock import SystemClock
from services.adapters.nats import jetstream
from services.adapters.nats.connection import NatsBus

logger = logging.getLogger(__name__)

STREAM = "WC_TASKS"
TASKS = "wc.tasks.>"
START = "wc.start"
COMMAND = "wc.command"
BEAT = "wc.beat"
COMMITS = "wc.commits"
TOPOLOGY = "wc.topology"

RESULT, LOG, ASK = "result", "log", "ask"
"""Kinds of messages to a shard's owner."""

VERDICT, ANSWER, CONTROL = "verdict", "answer", "control"
"""Kinds of messages to a runner."""

ACK_WAIT_SECONDS = 15.0
"""How long a delivered task may stay silent before JetStream delivers it again."""
MAX_AGE_SECONDS = 3600.0
"""Tasks that nobody took for so long are dropped; their owners publish them again."""
DUPLICATE_WINDOW_SECONDS = 120.0
"""How long a message id is remembered."""
STREAM_BYTES_MAX = 1 << 30
"""Size of the stream; what does not fit is refused, and repeated by its publisher."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")


def _token(kind: str, value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"malformed {kind} {value!r}: 1 to 128 of A-Z a-z 0-9 _ -")
    return value


@functools.lru_cache(maxsize=4096)
def task_subject(queue: str) -> str:
    """Subject of a task queue's tasks. Raises ValueError for a name that is no NATS token."""
    return f"wc.tasks.{_token('task queue', queue)}"


@functools.lru_cache(maxsize=4096)
def consumer_name(queue: str) -> str:
    """Name of a task queue's durable consumer. Raises ValueError for a name that is no NATS token."""
    return f"q_{_token('task queue', queue)}"


@functools.lru_cache(maxsize=4096)
def owner_subject(shard: int, kind: str) -> str:
    """Subject that reaches the owner of a shard (0–255); `kind` is RESULT, LOG or ASK."""
    return f"wc.owner.{shard}.{kind}"


@functools.lru_cache(maxsize=4096)
def owner_subjects(shard: int) -> str:
    """What the owner of a shard subscribes to: all kinds. `kind_of` tells them apart."""
    return f"wc.owner.{shard}.*"


@functools.lru_cache(maxsize=4096)
def runner_subject(runner_id: str, kind: str) -> str:
    """Subject that reaches one runner; `kind` is VERDICT, ANSWER or CONTROL. `kind_of` tells them apart."""
    return f"wc.runner.{_token('runner id', runner_id)}.{kind}"


def kind_of(subject: str) -> str:
    """Last token of a subject: the kind of a message to an owner or a runner."""
    return subject[subject.rfind(".") + 1 :]


def logs_subject(execution_id: str) -> str:
    """Subject of an execution's live log lines; the id as canonical UUID text."""
    return f"wc.logs.{_token('execution id', execution_id)}"


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What an installation, or a test, may choose about the work queue."""

    stream_bytes_max: int = STREAM_BYTES_MAX
    ack_wait_seconds: float = ACK_WAIT_SECONDS
    duplicate_window_seconds: float = DUPLICATE_WINDOW_SECONDS
    replicas: int = 1


DEFAULT_LIMITS = QueueLimits()


def stream_config(limits: QueueLimits) -> dict[str, Any]:
    """The stream as JetStream's API takes it."""
    return {
        "name": STREAM,
        "subjects": [TASKS],
        "retention": "workqueue",
        "storage": "file",
        "discard": "new",
        "max_age": int(MAX_AGE_SECONDS * jetstream.SECOND_NS),
        "max_bytes": limits.stream_bytes_max,
        "max_consumers": -1,
        "max_msgs": -1,
        "duplicate_window": int(limits.duplicate_window_seconds * jetstream.SECOND_NS),
        "num_replicas": limits.replicas,
    }


def consumer_config(queue: str, limits: QueueLimits) -> dict[str, Any]:
    """A task queue's durable consumer as JetStream's API takes it."""
    return {
        "durable_name": consumer_name(queue),
        "filter_subject": task_subject(queue),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(limits.ack_wait_seconds * jetstream.SECOND_NS),
        "max_deliver": -1,
        "max_ack_pending": -1,
        "max_waiting": 4096,
    }


def _first_sequence() -> int:
    """Sequence at which a new stream begins: microseconds since the epoch.

    An acknowledgement names nothing but consumer and sequence. Were sequences to begin at 1 again, one that
    belongs to a stream that is gone would delete a task of the one that took its place.
    """
    return SystemClock().now()


async def ensure_topology(
    bus: NatsBus, queues: Sequence[str], limits: QueueLimits = DEFAULT_LIMITS
) -> StreamState:
    """Makes the stream and the consumers of these task queues where they are missing or different.

    Returns the stream's state; its `created_at` tells an owner whether the stream is another one than before. Who
    creates it says so on `wc.topology`. Safe to call at any time and from everywhere at once. Raises `BusError`.
    """
    config = stream_config(limits)
    created = False
    try:
        info = await jetstream.call(bus, f"STREAM.INFO.{STREAM}")
        if any(info["config"].get(name) != value for name, value in config.items()):
            info = await jetstream.call(bus, f"STREAM.UPDATE.{STREAM}", config)
    except QueueError as error:
        if error.code != jetstream.STREAM_NOT_FOUND:
            raise
        try:
            config["first_seq"] = _first_sequence()
            info = await jetstream.call(bus, f"STREAM.CREATE.{STREAM}", config)
            created = True
        except QueueError as refused:
            if refused.code != jetstream.STREAM_NAME_IN_USE:
                raise
            info = await jetstream.call(bus, f"STREAM.INFO.{STREAM}")
    for queue in queues:
        body = {"stream_name": STREAM, "config": consumer_config(queue, limits)}
        await jetstream.call(bus, f"CONSUMER.DURABLE.CREATE.{STREAM}.{consumer_name(queue)}", body)
    if created:
        logger.warning("nats: created the stream %s", STREAM)
        bus.publish(TOPOLOGY, b"")
    return jetstream.stream_state(info)
