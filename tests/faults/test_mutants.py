"""Each rule is broken on purpose, and the test that guards it fails. Mutants of single parts are beside their tests:
a doubled result answered from memory (services/scheduler), the fence removed and unsorted keys (adapters/postgres).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest
import pytest_asyncio

from services.adapters.ids import new_uuid7
from services.adapters.postgres.commit import application_name
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.sessions import SessionStore
from services.scheduler.duties.inbox import Inbox
from services.scheduler.items import Item
from tests.faults import scenarios
from tests.faults.mutants.patches import command
from tests.support.stack import ROOT, Stacks, StackUnderTest
from tests.support.waiting import pause

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(240)]

Scenario = Callable[[StackUnderTest], Awaitable[None]]
# Scenario -> the mutant it must notice, and the service that is mutated.
GUARDS: list[tuple[Scenario, str, str]] = [
    (scenarios.accepted_while_nobody_listens, "no_repair", "scheduler"),
    (scenarios.tasks_lost_with_the_store, "no_repair", "scheduler"),
    (scenarios.acknowledged_start_survives_the_api, "start_acknowledged_before_commit", "api"),
    (scenarios.result_waits_for_its_verdict, "task_acknowledged_before_verdict", "runner"),
    (scenarios.rollups_miss_nothing, "rollups_from_messages", "monitor"),
]
FREEZES = 40
# A commit takes a few milliseconds: freezes meet all of its moments.
MOMENT_SECONDS_MAX = 0.02


@pytest.mark.parametrize("scenario", [scenario for scenario, _, _ in GUARDS])
async def test_the_promise_is_kept(stacks: Stacks, scenario: Scenario) -> None:
    await scenario(await stacks.start())


@pytest.mark.parametrize(("scenario", "mutant", "kind"), GUARDS)
async def test_the_mutant_is_noticed(stacks: Stacks, scenario: Scenario, mutant: str, kind: str) -> None:
    stack = await stacks.start(commands={kind: command(mutant, kind)})
    with pytest.raises(AssertionError):
        await scenario(stack)


@pytest_asyncio.fixture(loop_scope="session")
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections to a fresh database."""
    async with Pool(database_url) as pool:
        yield pool


class CursorInbox(Inbox):
    """The mutant: reads on from the last command it has seen."""

    _seen_until = 0

    async def run_once(self) -> dict[str, int]:
        rows = await self._rows.unanswered_commands(sorted(self._owned), 1000)
        for row in rows:
            if row.command.created_at > self._seen_until:
                self._put(Item(row.command.execution_id, None))
        self._seen_until = max([self._seen_until, *(row.command.created_at for row in rows)])
        return {}


@pytest.mark.parametrize(("inbox_class", "found"), [(Inbox, True), (CursorInbox, False)])
async def test_a_command_that_commits_late_is_read(
    database_url: str, pool: Pool, inbox_class: type[Inbox], found: bool
) -> None:
    """Two api processes record commands; the one recorded first commits last."""
    seen: list[bytes] = []
    inbox = inbox_class(ExecutionStore(pool), set(range(256)), lambda item: seen.append(item.execution_id))
    now = await SessionStore(pool).database_now()
    late, early = new_uuid7(now), new_uuid7(now)
    async with await psycopg.AsyncConnection.connect(database_url) as slow:
        await _record(slow, late, "a", "1 second")
        async with await psycopg.AsyncConnection.connect(database_url) as quick:
            await _record(quick, early, "b", "0 seconds")
        await inbox.run_once()
        assert seen == [early]
        seen.clear()
    await inbox.run_once()
    assert (late in seen) is found


async def _record(
    connection: psycopg.AsyncConnection[object], execution_id: bytes, request_id: str, ago: str
) -> None:
    await connection.execute(
        "insert into commands (id, execution_id, shard, organization_id, request_id, kind, body, requested_by,"
        " created_at) values (gen_random_uuid(), %s::uuid, %s, 'acme', %s, 'cancel', '{}', 'ann',"
        " clock_timestamp() - %s::interval)",
        (execution_id.hex(), execution_id[15], request_id, ago),
    )


@pytest.mark.parametrize(("mutant", "held"), [((), False), (("copy",), True)])
async def test_a_frozen_process_holds_no_fence(
    database_url: str, pool: Pool, mutant: tuple[str, ...], held: bool
) -> None:
    """Stopped at any moment, a scheduler's commit is made or is not; nothing of it is open a moment later."""
    session = (await SessionStore(pool).open("frozen", "a:1", 1)).session
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.mutants.committing", database_url, str(session), *mutant,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}"}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    open_after, moments = 0, random.Random(session)
    try:
        for _ in range(FREEZES):
            async with asyncio.timeout(20):
                assert await process.stdout.readline(), "it has ended"
            await pause(moments.uniform(0.0, MOMENT_SECONDS_MAX))
            process.send_signal(signal.SIGSTOP)
            open_after += await _still_open(pool, session)
            process.send_signal(signal.SIGCONT)
    finally:
        process.kill()
        process.send_signal(signal.SIGCONT)
        await process.communicate()
    assert (open_after > 0) is held, f"{open_after} of {FREEZES} freezes left a transaction open"


async def _still_open(pool: Pool, session: int) -> bool:
    """Whether a backend of the session has a transaction that wrote, and keeps it for a quarter of a second."""
    query = "select backend_xid from pg_stat_activity where application_name = %s and backend_xid is not null"
    for _ in range(5):
        if not await pool.fetch(query, (application_name(session),)):
            return False
        await pause(0.05)
    return True
