"""Clients of the shared stack, and the demo shop."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.local.service import Service
from tests.support.client import Client
from tests.support.stack import ROOT, StackUnderTest, clean_environment


@pytest.fixture
def client(stack: StackUnderTest) -> Client:
    """A user of the stack's own organization."""
    return Client(stack)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Base URL of a running demo shop."""
    log = tmp_path_factory.mktemp("shop") / "shop.log"
    service = Service("shop", "shop", env=clean_environment(), log=log, cwd=ROOT)
    service.child.command = [sys.executable, "-m", "examples.demo_shop", service.http_address]
    await service.start()
    yield f"http://{service.http_address}"
    await service.stop()
