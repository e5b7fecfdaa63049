"""What `up` shows: one line per process, live on a terminal, else a line for each change."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.local.stack import Stack
from services.local.supervise import Supervisor

REFRESHES_PER_SECOND = 4
_COLOURS = {
    "ready": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "migrating": "yellow",
    "stopped": "dim",
}


class Screen(Protocol):
    """Shows the parts of a stack while it runs."""

    def __enter__(self) -> Screen:
        """Begin to show."""

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Leave the last state visible."""

    def report(self, name: str, what: str) -> None:
        """Something happened to a part."""

    def say(self, line: str) -> None:
        """A line for people, above the parts."""


class PlainScreen:
    """A line for each change, for logs and pipes."""

    def __init__(self, address_of: Callable[[str], str]) -> None:
        self._address_of = address_of

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        return None

    def report(self, name: str, what: str) -> None:
        """Something happened to a part."""
        where = self._address_of(name) if what == "ready" else ""
        print(f"{name:<12} {what} {where}".rstrip(), flush=True)

    def say(self, line: str) -> None:
        """A line for people."""
        print(line, flush=True)


class LiveScreen:
    """A table that stays where it is on a terminal."""

    def __init__(self, stack: Stack, supervisor: Callable[[], Supervisor | None]) -> None:
        self._stack = stack
        self._supervisor = supervisor
        self._states: dict[str, str] = {}
        self._live = Live(
            get_renderable=self._table,
            console=Console(),
            refresh_per_second=REFRESHES_PER_SECOND,
            auto_refresh=True,
        )

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._live.stop()

    def report(self, name: str, what: str) -> None:
        """Something happened to a part."""
        self._states[name] = what
        self._live.refresh()

    def say(self, line: str) -> None:
        """A line for people, above the table."""
        self._live.console.print(line, highlight=False)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for title in ("process", "pid", "address", "restarts", "state"):
            table.add_column(
                title, header_style="dim", justify="right" if title in {"pid", "restarts"} else "left"
            )
        supervisor = self._supervisor()
        for part in self._stack.parts:
            state = self._states.get(part.name, "")
            restarts = supervisor.restarts.get(part.name, 0) if supervisor else 0
            table.add_row(
                part.name,
                str(part.pid) if part.running else "",
                part.address if part.running else "",
                str(restarts or ""),
                Text(state, style=_COLOURS.get(state, "red" if state else "dim")),
            )
        return table


def address_of(stack: Stack) -> Callable[[str], str]:
    """How a plain screen finds addresses."""

    def find(name: str) -> str:
        return next((f"{part.address} (process {part.pid})" for part in stack.parts if part.name == name), "")

    return find


def on_terminal() -> bool:
    """True when somebody watches."""
    return sys.stdout.isatty()
