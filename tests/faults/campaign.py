"""A campaign: a load, faults meanwhile, and the judgement of what is left. `python -m tests.faults.campaign SEED`."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.faults import Fault, in_turn, inflict, one_of_each
from tests.faults.graphs import cases
from tests.faults.load import Journal, Load
from tests.faults.oracle import Evidence, check_logs, check_rollups, doubled_attempts, gather, judge
from tests.faults.truth import Truth
from tests.support.client import Client, status_of
from tests.support.stack import StackUnderTest
from tests.support.streams import messages_in_streams
from tests.support.waiting import until

HEALING_SECONDS = 60.0
SAMPLE = 12
COUNTS = {"api": 1, "scheduler": 2, "runner": 3, "monitor": 1}


@dataclass(slots=True)
class Verdict:
    """What came of a campaign; `wrong` is empty when every promise was kept."""

    wrong: list[str]
    executions: int
    healed_s: float
    doubled: int

    def __str__(self) -> str:
        summary = (
            f"{self.executions} executions, healed in {self.healed_s:.1f} s, {self.doubled} doubled attempts"
        )
        return "\n".join([summary, *self.wrong[:40]])


async def run_campaign(
    stack: StackUnderTest,
    seed: int,
    count: int,
    faults: Sequence[Fault],
    healing_s: float = HEALING_SECONDS,
) -> Verdict:
    """Start `count` executions evenly over the schedule of faults, let it heal, and judge."""
    loop = asyncio.get_running_loop()
    journal = Journal(stack.directory / f"journal-{seed}.jsonl")
    client = Client(stack)
    definitions, todo = cases(seed, count)
    for definition in definitions:
        await client.create(definition)
    load = Load(client, journal, random.Random(seed), f"seed-{seed}")
    lasts = max((fault.at_s for fault in faults), default=5.0)
    running = asyncio.ensure_future(load.run(todo, lasts))
    truth = Truth(stack.postgres.url)
    try:
        await inflict(stack, list(faults))
        over = loop.time()
        wrong = await _heal(load, running, truth, over + healing_s)
        healed = loop.time() - over
        evidence = await gather([load], stack.ledger.effects(), truth)
        wrong += [f"{part.name} has ended by itself" for part in stack.parts if not part.running]
        wrong += judge(evidence) + await _settle(evidence, truth, stack, over + healing_s)
        wrong += await _seen_by_clients(client, evidence, random.Random(seed))
        return Verdict(wrong, len(evidence.records), healed, len(doubled_attempts(evidence.effects)))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await truth.close()
        journal.close()


async def _heal(load: Load, running: asyncio.Future[None], truth: Truth, deadline: float) -> list[str]:
    """Wait until everything that was started has ended, or until there is no more time."""
    loop = asyncio.get_running_loop()
    await asyncio.wait({running}, timeout=max(0.0, deadline - loop.time()))
    if not running.done():
        waiting = [one.key for one in load.started if not one.execution_id or one.changes]
        return [f"the client still waits for answers: {waiting[:10]}"]
    running.result()
    try:
        await until(lambda: _none_open(truth), "nothing is open", max(1.0, deadline - loop.time()), every=0.2)
    except AssertionError:
        return [
            f"{await truth.open_count()} executions are open {HEALING_SECONDS:.0f} s after the last fault"
        ]
    return []


async def _none_open(truth: Truth) -> bool:
    return await truth.open_count() == 0


async def _settle(evidence: Evidence, truth: Truth, stack: StackUnderTest, deadline: float) -> list[str]:
    """What follows within moments: roll-ups, logs, empty streams, nothing left over."""

    async def wrong() -> list[str]:
        found = await check_rollups(evidence, truth) + await check_logs(evidence, truth)
        found += [f"{count} {what} left" for what, count in (await truth.leftovers()).items() if count]
        left = await messages_in_streams(stack.nats.url)
        return found + [f"{count} messages left in {stream}" for stream, count in left.items() if count]

    async def clean() -> bool:
        return not await wrong()

    left = deadline - asyncio.get_running_loop().time()
    try:
        await until(clean, "everything is settled", max(5.0, left), every=0.5)
    except AssertionError:
        return await wrong()
    return []


async def _seen_by_clients(client: Client, evidence: Evidence, rng: random.Random) -> list[str]:
    """The api tells of an execution what its row and its history say."""
    wrong: list[str] = []
    for execution_id in rng.sample(sorted(evidence.records), min(SAMPLE, len(evidence.records))):
        record = evidence.records[execution_id]
        execution = (await client.get(execution_id)).execution
        told = (status_of(execution).lower(), execution.sequence, len(await client.history(execution_id)))
        kept = (record.row.status, record.row.sequence, len(record.events))
        if told != kept:
            wrong.append(f"{execution_id}: the api tells {told}, kept is {kept}")
    return wrong


async def _main(directory: Path, seed: int, count: int, short: bool) -> int:
    stack = StackUnderTest(directory, counts=COUNTS)
    try:
        await stack.start()
        faults = one_of_each() if short else in_turn(COUNTS["scheduler"], COUNTS["runner"])
        verdict = await run_campaign(stack, seed, count, faults)
        print(verdict)
        print("the logs are in", directory / "logs")
        return 1 if verdict.wrong else 0
    finally:
        await stack.discard()


def main() -> int:
    """Run one campaign from the command line; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int, nargs="?", default=300)
    parser.add_argument("--short", action="store_true", help="the faults of `make test`")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="campaign-"))
    directory.chmod(0o711)
    return asyncio.run(_main(directory, options.seed, options.count, options.short))


if __name__ == "__main__":
    sys.exit(main())
