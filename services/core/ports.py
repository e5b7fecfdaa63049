"""What a scheduler hands to its store in one fenced commit, and what can come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.core.records import (
    FinishedExecution,
    HistoryRow,
    NewCommand,
    NewExecution,
    SnapshotRow,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class CommitBatch:
    """One group commit of a session; all of it or nothing is kept.

    `number` follows the number of the session's last commit that was made or never can be (`NeverCommitted`);
    a batch that was `RolledBack` goes again under the same number. An execution appears at most once in
    each list and not in both `ends` and `snapshots`, `wakes` or `quarantines`.

    `digest`      what readers of the feed see of the commit.
    `quarantines` (execution, why): held asleep until woken; `None` takes it out of quarantine and wakes it.
    `commands`    inbox rows for other executions; a request id that is there already is left alone.
    `starts`      executions that events of this commit start; an id that is there already is left alone.
    `hand_overs`  (shard, session): shards of this session that a living session takes at once.
    `take_overs`  shards without a living session; `Committed.taken` says which were got.
    """

    session: int
    number: int
    events_version: int
    digest: bytes = b""
    history: Sequence[HistoryRow] = ()
    ends: Sequence[FinishedExecution] = ()
    snapshots: Sequence[SnapshotRow] = ()
    wakes: Sequence[bytes] = ()
    quarantines: Sequence[tuple[bytes, bytes | None]] = ()
    verdicts: Sequence[Verdict] = ()
    commands: Sequence[NewCommand] = ()
    starts: Sequence[NewExecution] = ()
    hand_overs: Sequence[tuple[int, int]] = ()
    take_overs: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """It is kept. `at` is the database's time; `taken`, `handed_over`: shards that changed hands."""

    at: int
    taken: tuple[int, ...] = ()
    handed_over: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Fenced:
    """Another writer has been here: forget the executions of the batch and step down."""

    constraint: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The store does not take some value of the batch, now or ever: halve it until the culprit is alone."""

    sqlstate: str
    message: str
    constraint: str = ""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Nothing is kept, for sure, and the same batch may succeed later under the same number."""

    sqlstate: str
    message: str


@dataclass(frozen=True, slots=True)
class NeverCommitted:
    """The outcome was unknown; now its number is void: nothing is kept nor will be. Number + 1 is next."""


Outcome = Committed | Fenced | Refused | RolledBack | NeverCommitted


class Commits(Protocol):
    """Makes fenced commits for one session, one at a time."""

    async def commit(self, batch: CommitBatch) -> Outcome:
        """Commit and say what came of it; an unknown outcome is resolved before this returns."""

    async def close(self) -> None:
        """Let go of the connection."""
