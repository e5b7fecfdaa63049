"""The long campaign: `make test-faults`."""

from __future__ import annotations

import pytest

from tests.faults.campaign import COUNTS, run_campaign
from tests.faults.faults import in_turn
from tests.support.stack import Stacks

SEEDS = (1, 2, 3)
EXECUTIONS = 300

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_lost_whatever_dies(stacks: Stacks, seed: int) -> None:
    stack = await stacks.start(counts=COUNTS)
    verdict = await run_campaign(stack, seed, EXECUTIONS, in_turn(COUNTS["scheduler"], COUNTS["runner"]))
    assert not verdict.wrong, str(verdict)
    assert verdict.executions == EXECUTIONS
