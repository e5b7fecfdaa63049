"""What PostgreSQL holds after a campaign, and what its histories come to when they are applied again."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field

from services.adapters.cel import CelCompiler
from services.adapters.json_codec import JSON
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.watching import WatchStore
from services.adapters.wire.history import decode_events
from services.core import events as ev
from services.core.graph import RetryDefaults
from services.core.machine import apply
from services.core.records import ExecutionRecord, HistoryRow
from services.core.state import ExecutionInfo, ExecutionState, Values, new_execution
from services.scheduler.versions import VersionCache

ROWS_MAX = 1_000_000
PAGE = 100


@dataclass(slots=True)
class Record:
    """One execution: its row, its events with instants, and the state they come to (None: they do not apply)."""

    row: ExecutionRecord
    events: list[tuple[int, ev.Event]] = field(default_factory=list)
    state: ExecutionState | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Canonical text."""
        return str(uuid.UUID(bytes=self.row.start.execution_id))


class Truth:
    """Reads everything; rewinds nothing."""

    def __init__(self, database_url: str) -> None:
        self.pool = Pool(database_url, application_name="oracle")
        self._store = WatchStore(self.pool)
        self._versions = VersionCache(ExecutionStore(self.pool), CelCompiler(), RetryDefaults())

    async def close(self) -> None:
        """Close the connections."""
        await self.pool.close()

    async def count(self, query: str) -> int:
        """A number."""
        return int((await self.pool.fetch(query))[0][0])

    async def open_count(self) -> int:
        """Executions that have not ended."""
        return await self.count("select count(*) from open_executions")

    async def ids(self, table: str) -> list[bytes]:
        """Ids of open or ended executions."""
        return [row[0] for row in await self.pool.fetch(f"select execution_id from {table}")]

    async def records(self) -> list[Record]:
        """All ended executions, folded."""
        ids = await self.ids("executions")
        records: list[Record] = []
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            rows = await self._store.ended(page)
            histories: dict[bytes, list[HistoryRow]] = {}
            for row in await self._store.history_after([(i, 0) for i in page], ROWS_MAX):
                histories.setdefault(row.execution_id, []).append(row)
            records += [
                await self._fold(ended, histories.get(ended.start.execution_id, [])) for ended in rows
            ]
        return records

    async def _fold(self, row: ExecutionRecord, history: list[HistoryRow]) -> Record:
        record = Record(row)
        workflow = (await self._versions.get([row.start.version_id]))[row.start.version_id]
        state = new_execution(ExecutionInfo.of(row.start), workflow, Values(JSON, row.start.input or b""))
        try:
            for part in history:
                events = decode_events(part.events)
                if part.sequence != state.sequence + 1 or part.last_sequence != state.sequence + len(events):
                    record.problems.append(f"history has {part.sequence} after {state.sequence}")
                for event in events:
                    _check_ready(record, state, event)
                    record.events.append((part.at, event))
                    apply(state, event, part.at)
        except Exception as error:  # a history that does not apply is a finding, not the end of the search
            record.problems.append(f"history does not apply: {type(error).__name__}: {error}")
            return record
        record.state = state
        return record

    async def rolled_up(self) -> tuple[Counter[str], dict[tuple[str, str], Counter[str]]]:
        """Executions by status, and outcomes by (workflow id in hex, node), as the monitor counted them."""
        statuses = await self.pool.fetch(
            "select status, sum(count)::bigint from rollup_executions group by 1"
        )
        nodes = await self.pool.fetch(
            "select workflow_id, node_id, sum(succeeded)::bigint, sum(failed)::bigint, sum(timed_out)::bigint,"
            " sum(retried)::bigint, sum(lost)::bigint from rollup_nodes group by 1, 2"
        )
        names = ("succeeded", "failed", "timed_out", "retried", "lost")
        counted = {(row[0].hex(), row[1]): +Counter(dict(zip(names, row[2:], strict=True))) for row in nodes}
        return Counter({str(status): int(count) for status, count in statuses}), counted

    async def log_gaps(self) -> list[str]:
        """Executions whose log sequences are not 1, 2, 3 …, or whose attempts miss lines."""
        per_execution = await self.pool.fetch(
            "select execution_id, count(*), max(sequence) from execution_logs group by 1"
            " having count(*) <> max(sequence) or min(sequence) <> 1"
        )
        per_attempt = await self.pool.fetch(
            "select execution_id, node_id, attempt, count(*), max(number) from execution_logs group by 1, 2, 3"
            " having count(*) <> max(number) or min(number) <> 1"
        )
        return [f"{row[0].hex()}: {row[1:]}" for row in [*per_execution, *per_attempt]]

    async def line_counts(self) -> Counter[tuple[str, str, int]]:
        """Log lines by execution, node, attempt."""
        rows = await self.pool.fetch(
            "select execution_id, node_id, attempt, count(*) from execution_logs group by 1, 2, 3"
        )
        return Counter({(str(uuid.UUID(bytes=i)), node, attempt): n for i, node, attempt, n in rows})

    async def leftovers(self) -> dict[str, int]:
        """Counts of what must be gone once everything has ended."""
        return {
            "open executions": await self.open_count(),
            "quarantined": await self.count(
                "select count(*) from open_executions where quarantine is not null"
            ),
            "commands without a verdict": await self.count(
                "select count(*) from commands where verdict is null"
            ),
        }


def _check_ready(record: Record, state: ExecutionState, event: ev.Event) -> None:
    """A first attempt goes out only when its node's join is decided by what is in the history before it."""
    if isinstance(event, ev.NodeScheduled) and event.attempt == 1:
        compiled = state.workflow.nodes[event.node]
        if not all(state.edges[edge] for edge in compiled.incoming):
            record.problems.append(f"node {compiled.id} was scheduled before its dependencies were committed")
