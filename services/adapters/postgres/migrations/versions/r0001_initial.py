"""The first schema: definitions, open and finished executions, their history and logs, commits, roll-ups.

Hot tables have few indexes and no foreign keys: one writer per row is kept by the fence, not by constraints.
`executions`, `execution_history` and `execution_logs` are partitioned by the month in their UUIDv7; the
partitions are made by `services.adapters.postgres.partitions`. Free text from outside is bytea, since it may
hold what `text` refuses.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

DEFINITIONS = """
create table workflows (
    id uuid primary key,
    organization_id text not null,
    name text not null,
    latest_version integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    created_by text not null,
    unique (organization_id, name)
);
create table workflow_versions (
    id uuid primary key,
    workflow_id uuid not null references workflows (id),
    organization_id text not null,
    version integer not null,
    definition bytea not null,
    content_hash bytea not null,
    hash_form smallint not null,
    created_at timestamptz not null,
    created_by text not null,
    unique (workflow_id, version),
    unique (workflow_id, content_hash, hash_form)
);
create table idempotency_keys (
    organization_id text not null,
    key text not null,
    body_hash bytea not null,
    execution_id uuid not null,
    created_at timestamptz not null,
    primary key (organization_id, key)
);
create index idempotency_keys_created_at on idempotency_keys (created_at);
create table insert_batches (
    id uuid primary key,
    kind smallint not null,
    at timestamptz not null default clock_timestamp()
);
"""

# Columns of `open_executions` that `executions` repeats: what is known at the start.
START_COLUMNS = """
    organization_id text not null,
    user_id text not null,
    workflow_id uuid not null,
    workflow_name text not null,
    version_id uuid not null,
    version integer not null,
    mode text not null,
    priority text not null,
    created_at timestamptz not null,
    timeout_us bigint not null,
    key_root uuid not null,
    root_execution_id uuid not null,
    input bytea,
    labels jsonb not null,
    retry_count integer not null,
    retry_of_execution_id uuid,
    rollback_of_execution_id uuid,
    parent_execution_id uuid,
    schedule_id uuid,
    template_id uuid,
    options bytea,
"""

EXECUTIONS = f"""
create table open_executions (
    execution_id uuid primary key,
    shard smallint not null,
    {START_COLUMNS}
    asleep boolean not null default false,
    wake_at timestamptz,
    sequence bigint not null default 0,
    snapshot bytea,
    quarantine bytea
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
create index open_executions_awake on open_executions (shard, execution_id) where not asleep;
create index open_executions_asleep on open_executions (shard, wake_at) where asleep;
create index open_executions_listed on open_executions (organization_id, created_at, execution_id);

create table execution_history (
    execution_id uuid not null,
    sequence bigint not null,
    last_sequence bigint not null,
    at timestamptz not null,
    session bigint not null,
    number bigint not null,
    events_version smallint not null,
    events bytea not null,
    primary key (execution_id, sequence)
) partition by range (execution_id);

create table executions (
    execution_id uuid primary key,
    {START_COLUMNS}
    status text not null,
    status_reason text not null,
    output bytea,
    error bytea,
    started_at timestamptz,
    completed_at timestamptz not null,
    nodes_executed integer not null,
    nodes_failed integer not null,
    metrics bytea,
    sequence bigint not null,
    snapshot bytea
) partition by range (execution_id);
create index executions_listed on executions (organization_id, created_at, execution_id);
create index executions_by_workflow on executions (organization_id, workflow_id, created_at, execution_id);
create index executions_by_status on executions (organization_id, status, created_at, execution_id);
create index executions_by_label on executions using gin (labels jsonb_path_ops) where labels <> '{{}}';
create index executions_retried on executions (retry_of_execution_id) where retry_of_execution_id is not null;

create table execution_logs (
    execution_id uuid not null,
    sequence bigint not null,
    node integer not null,
    node_id text not null,
    node_name text not null,
    node_type text not null,
    iteration integer not null default 0,
    attempt integer not null,
    number integer not null,
    level smallint not null,
    message bytea not null,
    data bytea,
    at timestamptz not null,
    execution_step bigint not null,
    primary key (execution_id, sequence),
    unique (execution_id, node, iteration, attempt, number)
) partition by range (execution_id);

create function refuse_update() returns trigger language plpgsql as $$
begin
    raise exception 'rows of % are never updated', tg_table_name
        using errcode = 'integrity_constraint_violation';
end $$;
create trigger executions_immutable before update on executions
    for each row execute function refuse_update();
create trigger execution_history_immutable before update on execution_history
    for each row execute function refuse_update();
create trigger workflow_versions_immutable before update on workflow_versions
    for each row execute function refuse_update();
"""

OWNERSHIP = """
create table sessions (
    id bigint generated always as identity primary key,
    holder text not null,
    address text not null,
    events_version smallint not null,
    lease_until timestamptz not null,
    closed boolean not null default false,
    started_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
create index sessions_living on sessions (id) where not closed;
create table shards (
    shard smallint primary key check (shard between 0 and 255),
    session bigint,
    events_version smallint not null default 0
) with (fillfactor = 50);
insert into shards (shard) select generate_series(0, 255);
create table commits (
    session bigint not null,
    number bigint not null,
    kind smallint not null check (kind between 0 and 2),
    at timestamptz not null default clock_timestamp(),
    digest bytea not null default '',
    primary key (session, number)
) with (autovacuum_vacuum_scale_factor = 0.05);
create table commands (
    id uuid primary key,
    execution_id uuid not null,
    shard smallint not null,
    organization_id text not null,
    request_id text not null,
    kind text not null,
    body bytea not null,
    requested_by text not null,
    created_at timestamptz not null,
    verdict text,
    verdict_body bytea,
    decided_at timestamptz,
    unique (organization_id, request_id)
) with (fillfactor = 80);
create index commands_unanswered on commands (shard) where verdict is null;
create index commands_of_execution on commands (execution_id);
create index commands_decided_at on commands (decided_at) where verdict is not null;
"""

ROLLUPS = """
create table cursors (
    reader text not null,
    session bigint not null,
    number bigint not null,
    primary key (reader, session)
) with (fillfactor = 50);
create table rollup_executions (
    organization_id text not null,
    minute timestamptz not null,
    workflow_id uuid not null,
    mode text not null,
    status text not null,
    count bigint not null,
    duration_sum_us bigint not null,
    duration_max_us bigint not null,
    retries bigint not null,
    sketch bytea not null,
    primary key (organization_id, minute, workflow_id, mode, status)
) with (fillfactor = 70);
create index rollup_executions_minute on rollup_executions (minute);
create table rollup_nodes (
    organization_id text not null,
    minute timestamptz not null,
    workflow_id uuid not null,
    node_id text not null,
    node_type text not null,
    succeeded bigint not null,
    failed bigint not null,
    timed_out bigint not null,
    retried bigint not null,
    lost bigint not null,
    duration_sum_us bigint not null,
    duration_max_us bigint not null,
    cpu_us bigint not null,
    memory_max_bytes bigint not null,
    sketch bytea not null,
    primary key (organization_id, minute, workflow_id, node_id)
) with (fillfactor = 70);
create index rollup_nodes_minute on rollup_nodes (minute);
"""


def upgrade() -> None:
    """Create everything."""
    for part in (DEFINITIONS, EXECUTIONS, OWNERSHIP, ROLLUPS):
        op.execute(part)
