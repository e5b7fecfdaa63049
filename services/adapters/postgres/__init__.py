"""The only place that speaks SQL.

Plain values in and out: ids are 16 raw bytes, instants and durations integers in microseconds; rows are the
dataclasses of `services.core.records`, batches and outcomes those of `services.core.ports`. `url` is a
libpq URL.

migrate.migrate(url)                        blocks; from a running loop: asyncio.to_thread
revision.check_schema(connection)           raises SchemaUnknownError; `await pool.run(check_schema)`
partitions.ensure_partitions(connection)    a duty: `await pool.run(ensure_partitions)`
pool.Pool(url, size=, application_name=)    connections of every store below; .close()

commit.Committer(url, session)              .commit(CommitBatch) -> Outcome; .close()
sessions.SessionStore(pool, lease_us=)      .open(holder, address, events_version) -> SessionRow
    .renew(session) -> lease_until | None   .expired() -> [session]   .living() -> [SessionRow]
    .close_expired(session)   .close_own(session)   .shard_map() -> [session | None] * 256
    .database_now() -> us
executions.ExecutionStore(pool)             for the owner of the shards, never for clients
    .by_ids(ids)   .awake(shards, limit, after=None)   .due(shards, limit)   .quarantined(shards, limit)
    .next_wake(shards) -> us | None   .counts(shards) -> (awake, asleep, quarantined)
    .inputs(ids) -> {id: bytes | None}   .versions(ids) -> [VersionRow]
    .history_after([(id, sequence)])   .rows_with([(id, sequence)]) -> [HistoryRow]
    .unanswered_commands(shards, limit) -> [CommandRow]
"""
