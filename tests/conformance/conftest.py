"""Fixtures of the conformance suites: each runs on every implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.local.nats import EmbeddedNats
from tests.conformance.messaging import MemoryMessaging, Messaging, NatsMessaging
from tests.support.servers import empty_store


@pytest_asyncio.fixture(params=["memory", "nats"], loop_scope="session")
async def messaging(request: pytest.FixtureRequest, nats_server: EmbeddedNats) -> AsyncIterator[Messaging]:
    """The implementation under test."""
    made: Messaging = MemoryMessaging()
    if request.param == "nats":
        await empty_store(nats_server)
        made = NatsMessaging(nats_server)
    yield made
    await made.close()
