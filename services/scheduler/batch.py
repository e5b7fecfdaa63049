"""One batch in the making: what a commit will hold, and what may leave after it.

A batch is a list of changes, one an execution, that do not depend on one another: it can be halved when the
database refuses some value in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.adapters.wire.commits import Encoded, encode_change, encode_digest
from services.adapters.wire.finished import finished_execution
from services.adapters.wire.snapshots import encode_snapshot
from services.core.effects import Effect
from services.core.events import EVENTS_VERSION, Event
from services.core.ports import CommitBatch
from services.core.records import HistoryRow, SnapshotRow, Verdict
from services.scheduler.items import Item, Reply
from services.scheduler.live import Live

# A snapshot is written when the history since the last one outweighs it, and at least this much.
SNAPSHOT_HISTORY_BYTES_MIN = 1024 * 1024


@dataclass(slots=True)
class Change:
    """What one commit does to one execution.

    `items` are the inputs it was decided from, to be decided again when the commit never was; `replies` pair
    each reply with whether its input counted.
    """

    live: Live
    first_sequence: int
    items: list[Item] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    replies: list[tuple[Reply, bool]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    put_down: bool = False
    encoded: Encoded | None = None
    snapshot_bytes: int = 0


@dataclass(slots=True)
class Batch:
    """Changes of one commit, with what belongs to no single execution.

    `quarantines` says of executions why they are held, or None for those that are taken out of quarantine.
    `strangers` are replies about executions, by id, that are not open: stale, once the commit says that they are ours.
    """

    at: int
    changes: dict[bytes, Change] = field(default_factory=dict)
    strangers: list[tuple[bytes, Reply]] = field(default_factory=list)
    stranger_verdicts: list[Verdict] = field(default_factory=list)
    quarantines: dict[bytes, bytes | None] = field(default_factory=dict)
    take_overs: tuple[int, ...] = ()
    hand_overs: tuple[tuple[int, int], ...] = ()

    def change(self, live: Live) -> Change:
        """The change of an execution, begun when it has none yet."""
        change = self.changes.get(live.id)
        if change is None:
            change = self.changes[live.id] = Change(live, live.state.sequence + 1)
        return change

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches with half of the executions each; the rest goes with the second.

        Shards that are handed over go last: nothing of theirs may be written after that.
        """
        keys = list(self.changes)
        middle = len(keys) // 2
        first = Batch(self.at, {key: self.changes[key] for key in keys[:middle]})
        second = Batch(
            self.at,
            {key: self.changes[key] for key in keys[middle:]},
            self.strangers,
            self.stranger_verdicts,
            self.quarantines,
            self.take_overs,
            self.hand_overs,
        )
        return first, second

    def encode(self, session: int, number: int) -> CommitBatch:
        """The rows of the commit. Encodes each change once, whatever number it ends up under."""
        history: list[HistoryRow] = []
        ends, snapshots, wakes = [], [], []
        verdicts = list(self.stranger_verdicts)
        touched = []
        for execution_id, change in self.changes.items():
            live, state = change.live, change.live.state
            verdicts.extend(change.verdicts)
            if change.events:
                if change.encoded is None:
                    change.encoded = encode_change(state, change.first_sequence, change.events)
                encoded = change.encoded
                history.append(
                    HistoryRow(execution_id, change.first_sequence, state.sequence, self.at, encoded.events)
                )
                touched.append(encoded.touched)
            if state.status.final:
                ends.append(finished_execution(state))
                continue
            if change.put_down:
                snapshots.append(
                    SnapshotRow(execution_id, state.sequence, encode_snapshot(state), live.wake_at or None)
                )
            elif change.events and self._outweighed(change):
                snapshot = encode_snapshot(state)
                change.snapshot_bytes = len(snapshot)
                snapshots.append(SnapshotRow(execution_id, state.sequence, snapshot, asleep=False))
            elif live.asleep and change.events:
                wakes.append(execution_id)
        return CommitBatch(
            session=session,
            number=number,
            events_version=EVENTS_VERSION,
            digest=encode_digest(session, number, self.at, touched),
            history=history,
            ends=ends,
            snapshots=snapshots,
            wakes=wakes,
            quarantines=list(self.quarantines.items()),
            verdicts=verdicts,
            take_overs=self.take_overs,
            hand_overs=self.hand_overs,
        )

    @staticmethod
    def _outweighed(change: Change) -> bool:
        live, encoded = change.live, change.encoded
        grown = live.history_bytes + (len(encoded.events) if encoded else 0)
        return grown > max(SNAPSHOT_HISTORY_BYTES_MIN, live.snapshot_bytes)
