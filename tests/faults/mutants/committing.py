"""A process that commits for a session, one commit after the other, until it is killed: frozen at any moment.

`python -m tests.faults.mutants.committing DATABASE_URL SESSION [copy]`; `copy` is the mutant: the fence's row and a
COPY in a transaction, so that between its messages the process holds the fence. Prints each number it committed.
"""

from __future__ import annotations

import asyncio
import sys

import psycopg

from services.adapters.clock import SystemClock
from services.adapters.ids import new_uuid7
from services.adapters.postgres.commit import Committer, application_name
from services.core.ports import CommitBatch, Committed
from services.core.records import HistoryRow

ROWS = 20


def _rows() -> list[HistoryRow]:
    now = SystemClock().now()
    return [HistoryRow(new_uuid7(now), 1, 1, now, b"events") for _ in range(ROWS)]


async def _properly(url: str, session: int) -> None:
    committer = Committer(url, session)
    number = 0
    while True:
        number += 1
        outcome = await committer.commit(CommitBatch(session, number, 1, history=_rows()))
        assert isinstance(outcome, Committed), outcome
        print(number, flush=True)


async def _by_copy(url: str, session: int) -> None:
    name = application_name(session)
    number = 0
    async with await psycopg.AsyncConnection.connect(
        url, autocommit=True, application_name=name
    ) as connection:
        while True:
            number += 1
            async with connection.transaction():
                await connection.execute(
                    "insert into commits (session, number, kind) values (%s, %s, 0)", (session, number)
                )
                columns = "execution_id, sequence, last_sequence, at, session, number, events_version, events"
                cursor = connection.cursor()
                async with cursor.copy(f"copy execution_history ({columns}) from stdin") as copy:
                    for row in _rows():
                        await copy.write_row(
                            (row.execution_id.hex(), 1, 1, "2026-01-01", session, number, 1, row.events)
                        )
            print(number, flush=True)


if __name__ == "__main__":
    work = _by_copy if "copy" in sys.argv[3:] else _properly
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
