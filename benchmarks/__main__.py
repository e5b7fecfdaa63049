"""`python -m benchmarks`: ours and the floor, workload by workload, in turn."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

from benchmarks.measure import OTHERS_SHARE_MAX, Measured, measure
from benchmarks.systems import Floor, Ours, System
from benchmarks.workloads import NARROW, WIDE, WORKLOADS, Workload

OUT = Path(__file__).parent / "out" / "latest.json"
TRIES_MAX = 3


async def throughput(system: System, workload: Workload) -> list[float]:
    """Run a workload; seconds of each execution."""
    slots = asyncio.Semaphore(workload.concurrency)
    times: list[float] = []

    async def one() -> None:
        async with slots:
            began = time.perf_counter()
            await system.run(workload.workflow)
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(one() for _ in range(workload.executions)))
    return times


async def collect(times: list[float], system: System, workload: Workload) -> None:
    """Run a workload and keep its times."""
    times.extend(await throughput(system, workload))


class Results:
    """Samples by system and workload; medians at the end."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.p99: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.cpu: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.pss: dict[str, float] = defaultdict(float)

    def add(self, name: str, workload: Workload, measured: Measured, times: list[float]) -> None:
        """One measurement."""
        nodes = workload.executions * workload.counted
        if workload.name == "W6":
            value = statistics.median(times)
        elif workload.serial:
            value = statistics.median(times) * 1000
            self.p99[name][workload.name].append(sorted(times)[int(len(times) * 0.99)] * 1000)
        else:
            value = nodes / measured.wall_s
        self.values[name][workload.name].append(value)
        self.cpu[name][workload.name].append(1000 * measured.cpu_s / nodes)
        self.pss[name] = max(self.pss[name], measured.pss_mb)
        print(
            f"{name:6} {workload.name:6} {value:10.2f}   cpu-s/1000 nodes {1000 * measured.cpu_s / nodes:7.3f}"
            f"   others {100 * measured.others_share:4.1f} %   PSS {measured.pss_mb:6.0f} MB",
            flush=True,
        )

    def report(self) -> dict[str, object]:
        """What goes to the file."""

        def medians(samples: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
            return {
                n: {w: round(statistics.median(v), 4) for w, v in by.items()} for n, by in samples.items()
            }

        return {
            **medians(self.values),
            "p99_ms": medians(self.p99),
            "cpu_s_per_1000_nodes": medians(self.cpu),
            "peak_pss_mb": {name: round(value, 1) for name, value in self.pss.items()},
        }


async def one_measurement(
    systems: dict[str, System], name: str, workload: Workload, results: Results
) -> None:
    """Measure until other programs kept quiet, a few times at most."""
    system = systems[name]
    idle = [pid for other, one in systems.items() if other != name for pid in one.pids()]
    for attempt in range(TRIES_MAX):
        times: list[float] = []
        measured = await measure(system.pids(), idle, partial(collect, times, system, workload))
        if measured.others_share <= OTHERS_SHARE_MAX or attempt == TRIES_MAX - 1:
            results.add(name, workload, measured, times)
            return
        print(
            f"{name:6} {workload.name:6} dropped: other programs took {100 * measured.others_share:.0f} %",
            flush=True,
        )


async def run(arguments: argparse.Namespace) -> None:
    """Start both, warm up, measure in turn, write."""
    chosen = [WORKLOADS[name] for name in arguments.workloads.split(",")] if arguments.workloads else []
    if arguments.width:
        chosen += [WIDE, NARROW]
    results = Results()
    with tempfile.TemporaryDirectory(prefix="weconnect-bench-") as scratch:
        # The embedded PostgreSQL may run as another user, who must reach its data.
        Path(scratch).chmod(0o711)
        systems: dict[str, System] = {}
        if not arguments.ours_only:
            systems["floor"] = Floor(Path(scratch) / "floor")
        if not arguments.floor_only:
            systems["ours"] = Ours(Path(scratch) / "ours")
        try:
            for system in systems.values():
                await system.start(sorted({workload.workflow for workload in chosen}))
            for name, system in systems.items():
                print(f"warming up {name}", flush=True)
                await throughput(system, Workload("warm", chosen[0].workflow, 200, 32, 1))
            for _ in range(arguments.rounds):
                for workload in chosen:
                    for name in systems:
                        if name == "floor" and workload in (WIDE, NARROW):
                            continue
                        await one_measurement(systems, name, workload, results)
        finally:
            for system in systems.values():
                await system.stop()
    report = results.report()
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    summarize(report)


def summarize(report: dict[str, object]) -> None:
    """Ratios, which is all that means anything on another machine."""
    ours, floor, cpu = report.get("ours"), report.get("floor"), report["cpu_s_per_1000_nodes"]
    assert isinstance(cpu, dict)
    if isinstance(ours, dict) and isinstance(floor, dict):
        for name in floor:
            print(
                f"{name}: ours {ours[name]:.2f}, floor {floor[name]:.2f}, ratio {ours[name] / floor[name]:.2f}"
            )
    if isinstance(ours, dict) and "wide" in ours:
        ratio = cpu["ours"]["wide"] / cpu["ours"]["narrow"]
        print(f"CPU per node, one fan-out of 2000 against 200 of 10: {ratio:.2f}")
    print(f"written to {OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--width", action="store_true", help="also compare wide and narrow fan-outs")
    parser.add_argument("--floor-only", action="store_true")
    parser.add_argument("--ours-only", action="store_true")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
