"""Accepts executions: grouped inserts that an idempotency key lets happen once.

A key and its execution are inserted by the same statement, so that a key never names an execution that was not
accepted. Keys live in a table of their own, since a unique index on tables partitioned by id cannot keep them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.adapters.postgres.binary import Uuid, byteas, texts, timestamps, uuids
from services.adapters.postgres.connection import Connection, fetch
from services.adapters.postgres.errors import DataRefusedError
from services.adapters.postgres.group_insert import GroupInsert
from services.adapters.postgres.partitions import covered_range
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.start_columns import insert_starts, start_parameters
from services.core.records import StartRequest, StartResult

APPLICATION_NAME = "wc-starts"
CHECK_VIOLATION = "23514"  # what PostgreSQL says when no partition takes a row

_BATCH = "batch as (insert into insert_batches (id, kind) values (%(batch)s, 0))"
_KEYS = (
    "keys as (insert into idempotency_keys (organization_id, key, body_hash, execution_id, created_at)"
    " select * from unnest(%(key_organizations)s::text[], %(keys)s::text[], %(key_hashes)s::bytea[],"
    " %(key_executions)s::uuid[], %(key_created)s::timestamptz[])"
    " on conflict (organization_id, key) do nothing returning execution_id)"
)
_REPLACED = (
    "replaced as (update idempotency_keys i set execution_id = r.new, body_hash = r.hash, created_at = r.at"
    " from unnest(%(replace_organizations)s::text[], %(replace_keys)s::text[], %(replace_hashes)s::bytea[],"
    " %(replace_olds)s::uuid[], %(replace_news)s::uuid[], %(replace_created)s::timestamptz[])"
    " as r (organization_id, key, hash, old, new, at) where i.organization_id = r.organization_id"
    " and i.key = r.key and i.execution_id = r.old returning i.execution_id)"
)
_ACCEPTED = (
    " where r.execution_id in (select unnest(%(unkeyed)s::uuid[]) union all select execution_id from keys"
    " union all select execution_id from replaced)"
)
_NOTHING_REPLACED = "replaced as (select null::uuid as execution_id where false)"
_LOOK_UP = (
    "select w.position, i.execution_id, i.body_hash"
    " from unnest(%s::text[], %s::text[]) with ordinality as w (organization_id, key, position)"
    " join idempotency_keys i on i.organization_id = w.organization_id and i.key = w.key"
)
_BY_KEY = "select execution_id, body_hash from idempotency_keys where organization_id = %s and key = %s"


class StartWriter(GroupInsert[StartRequest, StartResult]):
    """`put(StartRequest) -> StartResult`: committed when it returns."""

    def __init__(self, url: str) -> None:
        super().__init__(url, APPLICATION_NAME)
        self._covered = (b"", b"")

    def order(self, item: StartRequest) -> tuple[str, str]:
        """By key; those without one come first and lock nothing of others."""
        return item.start.organization_id, item.key

    async def write(
        self, connection: Connection, batch: Uuid, items: Sequence[StartRequest]
    ) -> list[StartResult | Exception | None]:
        """One statement; starts whose id no partition takes are refused without it."""
        await self._learn_partitions(connection, items)
        low, high = self._covered
        taken = [item for item in items if low <= item.start.execution_id < high]
        inserted: set[bytes] = set()
        if taken:
            statement, parameters = _statement(batch, taken)
            inserted = {row[0] for row in await fetch(connection, statement, parameters, prepare=True)}
        results: list[StartResult | Exception | None] = []
        for item in items:
            execution_id = item.start.execution_id
            if not low <= execution_id < high:
                results.append(DataRefusedError(CHECK_VIOLATION))
            elif execution_id in inserted:
                results.append(StartResult(execution_id, True, item.body_hash))
            else:
                results.append(None)
        return results

    async def look_up(
        self, connection: Connection, items: Sequence[StartRequest]
    ) -> list[StartResult | None]:
        """What the keys name. Without a key a committed batch has inserted the start itself."""
        keyed = [(index, item) for index, item in enumerate(items) if item.key]
        parameters = (
            texts(item.start.organization_id for _, item in keyed),
            texts(item.key for _, item in keyed),
        )
        results: list[StartResult | None] = [
            None if item.key else StartResult(item.start.execution_id, True) for item in items
        ]
        for position, execution_id, body_hash in await fetch(connection, _LOOK_UP, parameters):
            index, item = keyed[position - 1]
            results[index] = StartResult(execution_id, execution_id == item.start.execution_id, body_hash)
        return results

    async def _learn_partitions(self, connection: Connection, items: Sequence[StartRequest]) -> None:
        low, high = self._covered
        if any(not low <= item.start.execution_id < high for item in items):
            self._covered = await covered_range(connection)


def _statement(batch: Uuid, items: Sequence[StartRequest]) -> tuple[str, dict[str, Any]]:
    keyed = [item for item in items if item.key]
    replacing = [item for item in keyed if item.replaces is not None]
    parameters = start_parameters([item.start for item in items])
    parameters.update(
        batch=batch,
        unkeyed=uuids(item.start.execution_id for item in items if not item.key),
        key_organizations=texts(item.start.organization_id for item in keyed),
        keys=texts(item.key for item in keyed),
        key_hashes=byteas(item.body_hash for item in keyed),
        key_executions=uuids(item.start.execution_id for item in keyed),
        key_created=timestamps(item.start.created_at for item in keyed),
    )
    replaced = _NOTHING_REPLACED
    if replacing:
        replaced = _REPLACED
        parameters.update(
            replace_organizations=texts(item.start.organization_id for item in replacing),
            replace_keys=texts(item.key for item in replacing),
            replace_hashes=byteas(item.body_hash for item in replacing),
            replace_olds=uuids(item.replaces for item in replacing),
            replace_news=uuids(item.start.execution_id for item in replacing),
            replace_created=timestamps(item.start.created_at for item in replacing),
        )
    insert = insert_starts(_ACCEPTED)
    return f"with {_BATCH}, {_KEYS}, {replaced} {insert} returning execution_id", parameters


class IdempotencyKeys:
    """Reads keys."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def execution_of(self, organization_id: str, key: str) -> StartResult | None:
        """The execution that a key names, with the hash of the body it was first sent with."""
        rows = await self._pool.fetch(_BY_KEY, (organization_id, key))
        return StartResult(rows[0][0], False, rows[0][1]) if rows else None
