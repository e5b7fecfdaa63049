"""Fixture of the runner's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.services.runner.rig import Rig


@pytest_asyncio.fixture(loop_scope="session")
async def rig(nats_url: str) -> AsyncIterator[Rig]:
    """A runner's surroundings on a fresh queue."""
    rig = Rig(nats_url)
    await rig.open()
    yield rig
    await rig.close()
