"""One kill of each kind under a load: what `make test` shows of the campaign."""

from __future__ import annotations

import pytest

from tests.faults.campaign import COUNTS, run_campaign
from tests.faults.faults import one_of_each
from tests.support.stack import Stacks


@pytest.mark.timeout(240)
async def test_one_kill_of_each_kind(stacks: Stacks) -> None:
    stack = await stacks.start(counts=COUNTS)
    verdict = await run_campaign(stack, seed=7, count=60, faults=one_of_each())
    assert not verdict.wrong, str(verdict)
    assert verdict.executions == 60
