"""The only place that speaks SQL.

Plain values in and out: ids are 16 raw bytes, instants and durations integers in microseconds; rows are the
dataclasses of `services.core.records` and `services.core.rollups`, batches and outcomes those of
`services.core.ports`. `url` is a libpq URL. What fails raises a `Refusal` of `errors`: DatabaseUnavailableError,
DataRefusedError.

migrate.migrate(url)                        blocks; from a running loop: asyncio.to_thread
revision.until_schema_known(pool)           at the start of a process; raises SchemaUnknownError
partitions.ensure_partitions(connection)    a duty: `await pool.run(ensure_partitions)`
pool.Pool(url, size=, application_name=)    connections of every store below; .close()

health.DatabaseHealth(clock, sessions, readiness)   a duty: .run_once(); .connected

For the scheduler
commit.Committer(url, session)              .commit(CommitBatch) -> Outcome; .close()
sessions.SessionStore(pool, lease_us=)      .open(holder, address, events_version) -> SessionRow
    .renew(session) -> lease_until | None   .expired() -> [session]   .living() -> [SessionRow]
    .close_expired(session)   .close_own(session)   .shard_map() -> [session | None] * 256
    .database_now() -> us
executions.ExecutionStore(pool)             for the owner of the shards, never for clients
    .by_ids(ids)   .awake(shards, limit, after=None)   .due(shards, limit)   .quarantined(shards, limit)
    .counts(shards) -> (awake, asleep, quarantined)
    .inputs(ids) -> {id: bytes | None}   .versions(ids) -> [VersionRow]
    .history_after([(id, sequence)])   .rows_with([(id, sequence)]) -> [HistoryRow]
    .unanswered_commands(shards, limit) -> [CommandRow]
logs.LogStore(pool)                         .append([LogRow]) -> new ones, with their sequence
    .read(org, execution_id, after=, limit=, level=, node_id=, attempt=) -> [LogRow]

For api
starts.StartWriter(url)                     .put(StartRequest) -> StartResult, committed; .close()
starts.IdempotencyKeys(pool)                .execution_of(org, key) -> StartResult | None
commands.CommandWriter(url)                 .put(NewCommand) -> CommandRow, recorded; .close()
commands.CommandStore(pool)                 .decided(ids)
workflows.WorkflowStore(pool)               .create(org, name, NewVersion)   .update(org, workflow_id, NewVersion)
    -> Saved | None   .by_id   .by_name   .version(org, id, number)
lists.ExecutionLists(pool)                  .list(org, ExecutionFilter, limit=, after=, oldest_first=, payloads=)
    -> [ExecutionRecord]
feed.CommitFeed(pool)                       .last_sequences(ids) -> {id: sequence}   .history(org, id, after=, limit=) -> [HistoryRow]

For the monitor and duties
rollups.RollupStore(pool, reader)           .next_commits(limit) -> ([CommitRow], [CursorMove])
    .apply(moves, executions, nodes, merge) -> bool   .executions(org, since, until, workflow_id=)   .nodes(…)
sweeps.Sweeper(pool)                        .commits(readers, limit=)   .insert_batches()   .idempotency_keys()
"""
