"""Shows an execution as it runs: a line per node and a bar on a terminal, a line per change elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from weconnect.executions.v1.enums_pb2 import ExecutionStatus, NodeStatus
from weconnect.executions.v1.execution_service_pb2 import NodeChange, WatchExecutionResponse

REFRESHES_PER_SECOND = 15
_FAILURES = {
    NodeStatus.NODE_STATUS_RETRYING,
    NodeStatus.NODE_STATUS_FAILED,
    NodeStatus.NODE_STATUS_TIMEOUT,
}
_STYLES = {
    "SCHEDULED": "yellow",
    "RUNNING": "cyan",
    "WAITING": "yellow",
    "RETRYING": "magenta",
    "SUCCESS": "green",
    "FAILED": "red",
    "TIMEOUT": "red",
    "SKIPPED": "dim",
    "CANCELLED": "dim",
}


class View(Protocol):
    """Takes the messages of a watch."""

    def __enter__(self) -> View:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Leave the last state visible."""

    def show(self, message: WatchExecutionResponse) -> None:
        """What changed."""


@dataclass(slots=True)
class NodeLine:
    """What is known of one node. Instants in microseconds, 0: unknown."""

    node_id: str
    type: str
    status: str = "PENDING"
    attempt: int = 0
    first_at: int = 0
    last_at: int = 0
    note: str = ""

    def change(self, change: NodeChange) -> None:
        """Follow the node."""
        self.status = word(NodeStatus.Name(change.status))
        self.attempt = max(self.attempt, change.attempt)
        at = microseconds(change.at)
        self.first_at = self.first_at or at
        self.last_at = at
        if (why := failure(change)) is not None:
            self.note = f"attempt {change.attempt}: {why}"

    @property
    def seconds(self) -> float:
        """From its first change to its last."""
        return (self.last_at - self.first_at) / 1_000_000


class TerminalView:
    """All nodes, redrawn in place, and a bar below them."""

    def __init__(self, nodes: Sequence[tuple[str, str]], console: Console) -> None:
        self._lines = {node_id: NodeLine(node_id, type) for node_id, type in nodes}
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._bar = self._progress.add_task("PENDING", total=len(self._lines))
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=REFRESHES_PER_SECOND
        )

    def __enter__(self) -> TerminalView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, message: WatchExecutionResponse) -> None:
        """What changed."""
        for change in message.node_changes:
            if change.node_id in self._lines:
                self._lines[change.node_id].change(change)
        self._progress.update(
            self._bar,
            description=word(ExecutionStatus.Name(message.status)),
            completed=message.progress.nodes_done,
            total=message.progress.nodes_total or len(self._lines),
        )

    def _render(self) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for title in ("node", "type", "status", "attempt", "time", ""):
            table.add_column(
                title, header_style="dim", justify="right" if title in {"attempt", "time"} else "left"
            )
        for line in self._lines.values():
            table.add_row(
                line.node_id,
                Text(line.type, style="dim"),
                Text(line.status, style=_STYLES.get(line.status, "dim")),
                str(line.attempt or ""),
                f"{line.seconds:.2f} s" if line.seconds else "",
                Text(line.note, style="dim", overflow="ellipsis", no_wrap=True),
            )
        return Group(table, self._progress)


class PlainView:
    """A line for each change, with the seconds since the first."""

    def __init__(self) -> None:
        self._first_at = 0

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, message: WatchExecutionResponse) -> None:
        """What changed."""
        done, total = message.progress.nodes_done, message.progress.nodes_total
        for change in message.node_changes:
            at = microseconds(change.at)
            self._first_at = self._first_at or at
            status = word(NodeStatus.Name(change.status))
            attempt = f" attempt {change.attempt}" if change.attempt > 1 else ""
            error = f" ({why})" if (why := failure(change)) is not None else ""
            seconds = (at - self._first_at) / 1_000_000
            print(
                f"{seconds:7.3f} s  {change.node_id:<10} {status}{attempt}{error}  [{done}/{total}]",
                flush=True,
            )


def make_view(nodes: Sequence[tuple[str, str]], console: Console) -> View:
    """The view that suits where we print. `nodes`: id and type of each, in the order to show."""
    return TerminalView(nodes, console) if console.is_terminal else PlainView()


def failure(change: NodeChange) -> str | None:
    """Why the attempt or node has just failed; later changes repeat the last error, which is no news."""
    if change.status not in _FAILURES or not change.HasField("error"):
        return None
    return change.error.message or change.error.type


def word(name: str) -> str:
    """`NODE_STATUS_RUNNING` and the like without their prefix."""
    return name.partition("_STATUS_")[2]


def microseconds(at: Timestamp) -> int:
    """Since the Unix epoch."""
    return at.seconds * 1_000_000 + at.nanos // 1000
