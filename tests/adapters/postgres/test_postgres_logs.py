"""Log lines: dense numbers, repeats that are harmless, two owners at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from services.adapters.postgres.logs import LogStore
from services.adapters.postgres.pool import Pool
from services.core.records import LogRow
from tests.adapters.postgres.rows import insert, new_execution


def line(execution_id: bytes, number: int, at: int, **changes: object) -> LogRow:
    """Line `number` of attempt 1 of a node."""
    row = LogRow(
        execution_id, 2, "charge", "Charge", "http.request", 1, number, 2, b"m%d\x00" % number, at, b"{}"
    )
    return replace(row, **changes)  # type: ignore[arg-type]


async def test_numbers_are_dense_and_repeats_harmless(pool: Pool, now: int) -> None:
    store = LogStore(pool)
    one, two = new_execution(now), new_execution(now)
    await insert(pool, one, two)
    a, b = one.execution_id, two.execution_id
    first = await store.append([line(b, 1, now), line(a, 1, now), line(a, 2, now), line(a, 2, now)])
    assert sorted((r.execution_id == a, r.number, r.sequence) for r in first) == [
        (False, 1, 1), (True, 1, 1), (True, 2, 2),
    ]  # fmt: skip
    assert await store.append([line(a, 1, now), line(a, 2, now)]) == []
    again = await store.append([line(a, 3, now, level=4), line(a, 2, now), line(a, 1, now, attempt=2)])
    assert [(r.number, r.attempt, r.sequence) for r in again] == [(3, 1, 3), (1, 2, 4)]
    lines = await store.read("acme", a)
    assert [r.sequence for r in lines] == [1, 2, 3, 4]
    assert lines[0] == line(a, 1, now, sequence=1)
    assert [r.sequence for r in await store.read("acme", a, after=1, limit=2)] == [2, 3]
    assert [r.sequence for r in await store.read("acme", a, level=3)] == [3]
    assert [r.sequence for r in await store.read("acme", a, attempt=2)] == [4]
    assert await store.read("acme", a, node_id="other") == []
    assert await store.read("other", a) == []


async def test_two_owners_at_once_stay_dense(database_url: str, pool: Pool, now: int) -> None:
    execution = new_execution(now)
    await insert(pool, execution)
    async with Pool(database_url, size=8) as busy:
        store = LogStore(busy)
        chunks = [[line(execution.execution_id, n, now, attempt=a) for n in range(1, 6)] for a in range(1, 9)]
        await asyncio.gather(*(store.append(chunk) for chunk in chunks + chunks))
        lines = await store.read("acme", execution.execution_id, limit=1000)
    assert [r.sequence for r in lines] == list(range(1, 41))
    for attempt in range(1, 9):
        assert [r.number for r in lines if r.attempt == attempt] == [1, 2, 3, 4, 5]
