"""Prometheus conventions in one place: names, buckets, cached children, process metrics and build info.

Names are `weconnect_<noun>_<unit|total>` or the ecosystem's own; labels are bounded sets, never ids. There is
no global registry: a process makes one and hands it on.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib import metadata
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

# Upper bounds in seconds. At most 15 each: a scrape costs time with every series.
RPC_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
NODE_SECONDS = (0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

_NAME = re.compile(r"(weconnect_[a-z0-9]+(_[a-z0-9]+)*|grpc_server_[a-z_]+|jetstream_[a-z_]+)\Z")
_UNITS = ("_seconds", "_bytes", "_total", "_info", "_ratio", "_items")

_Child_co = TypeVar("_Child_co", covariant=True)
_Child = TypeVar("_Child")


class _Family(Protocol[_Child_co]):
    def labels(self, *values: str) -> _Child_co: ...


class Children(Generic[_Child]):
    """Children of a labelled metric by their label values, kept: looking one up is a dictionary access."""

    def __init__(self, family: _Family[_Child]) -> None:
        self._family = family
        self._known: dict[tuple[str, ...], _Child] = {}

    def of(self, *values: str) -> _Child:
        """Child for the label values, in the order of the labels."""
        child = self._known.get(values)
        if child is None:
            child = self._known[values] = self._family.labels(*values)
        return child


def new_registry(process: str) -> CollectorRegistry:
    """Registry of a process with `process_…`, `python_…` and `weconnect_build_info`."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    info = Gauge(
        "weconnect_build_info",
        "Version of this process; always 1.",
        ["process", "version", "python"],
        registry=registry,
    )
    info.labels(process, version(), platform.python_version()).set(1)
    return registry


def version() -> str:
    """Version of the installed distribution; `0.0.0` in a bare checkout."""
    try:
        return metadata.version("weconnect-executions")
    except metadata.PackageNotFoundError:
        return "0.0.0"


def counter(registry: CollectorRegistry, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
    """Counter `…_total`."""
    if not name.endswith("_total"):
        raise ValueError(f"{name}: a counter ends in _total")
    return Counter(_checked(name), text, labels, registry=registry)


def gauge(registry: CollectorRegistry, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
    """Gauge of a present value."""
    return Gauge(_checked(name), text, labels, registry=registry)


def histogram(
    registry: CollectorRegistry,
    name: str,
    text: str,
    labels: Sequence[str] = (),
    buckets: Sequence[float] = RPC_SECONDS,
) -> Histogram:
    """Histogram with explicit buckets, named after its unit (`_seconds`, `_bytes`, `_items`)."""
    if not name.endswith(_UNITS):
        raise ValueError(f"{name}: a histogram ends in its unit")
    return Histogram(_checked(name), text, labels, registry=registry, buckets=tuple(buckets))


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError(f"{name}: metrics are named weconnect_<noun>_<unit|total>")
    return name


class DutyMetrics:
    """How the background duties of a process fare."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.runs = Children[Counter](
            counter(registry, "weconnect_duty_runs_total", "Runs of background duties.", ["duty", "outcome"])
        )
        self.seconds = Children[Histogram](
            histogram(registry, "weconnect_duty_run_seconds", "Time a run of a duty took.", ["duty"])
        )
