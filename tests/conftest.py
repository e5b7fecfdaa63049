"""Fixtures of all tests. Servers live as long as their test process (under xdist: one set per worker).

postgres (server) · database_url (fresh, migrated) · empty_database_url · nats_server · nats_url (fresh store) ·
stacks (starts whole stacks for one test) · stack (one whole stack for all tests of a process that leave it well)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator

import pytest
import pytest_asyncio

from services.local.nats import EmbeddedNats
from services.local.postgres import EmbeddedPostgres
from tests.support.servers import Databases, empty_store
from tests.support.stack import Stacks, StackUnderTest, stacks_in

STACKS = pytest.StashKey[list[Stacks]]()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL server of this test process. A test that kills it may leave it so: it is started again."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    await server.start()
    yield server
    await server.kill()
    server.remove()


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres) -> Databases:
    """Makes databases on that server."""
    return Databases(postgres)


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """URL of a fresh database with the schema of this code."""
    url = await databases.migrated()
    yield url
    await databases.drop(url)


@pytest_asyncio.fixture(loop_scope="session")
async def empty_database_url(databases: Databases) -> AsyncIterator[str]:
    """URL of a fresh database without anything."""
    url = await databases.empty()
    yield url
    await databases.drop(url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedNats]:
    """A NATS server of this test process. A test that kills or wipes it may leave it so."""
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"))
    await server.start()
    yield server
    await server.kill()
    server.remove()


@pytest_asyncio.fixture(loop_scope="session")
async def nats_url(nats_server: EmbeddedNats) -> str:
    """URL of that server, running and without streams."""
    await empty_store(nats_server)
    return nats_server.url


@pytest_asyncio.fixture(loop_scope="session")
async def stacks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stacks]:
    """Starts stacks that end with the test; their logs are shown when it fails."""
    async with stacks_in(lambda: tmp_path_factory.mktemp("stack")) as started:
        request.config.stash.setdefault(STACKS, []).append(started)
        yield started
        request.config.stash[STACKS].remove(started)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StackUnderTest]:
    """One process of each service, shared by tests that leave it as they found it."""
    async with stacks_in(lambda: tmp_path_factory.mktemp("stack")) as started:
        request.config.stash.setdefault(STACKS, []).append(started)
        yield await started.start()
        request.config.stash[STACKS].remove(started)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the stacks beside what failed."""
    report = yield
    if report.failed:
        for started in item.config.stash.get(STACKS, []):
            report.sections += [(f"log of {name}", text) for name, text in started.logs().items() if text]
    return report
