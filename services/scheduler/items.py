"""What comes into the writer's queue: an input for an execution, and who waits to hear what became of it.

Nothing changes these values once they are made. They are not frozen, because a frozen dataclass costs three times as
much to make and these are made for every event.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.inputs import Input


@dataclass(slots=True)
class ResultReply:
    """A runner waits for the verdict on its result."""

    runner_id: str
    token: int


@dataclass(slots=True)
class AskReply:
    """A runner waits to hear whether to run an attempt."""

    runner_id: str
    token: int
    node: int
    attempt: int


@dataclass(slots=True)
class HeldReply:
    """A runner said that it runs an attempt; it must hear when nobody needs that any more."""

    runner_id: str
    node: int
    attempt: int


@dataclass(slots=True)
class CommandReply:
    """An inbox row waits for its verdict, which goes into the same commit."""

    command_id: bytes


Reply = ResultReply | AskReply | HeldReply | CommandReply


@dataclass(slots=True)
class Item:
    """One input. `happened` None: nothing but the question in `reply`."""

    execution_id: bytes
    happened: Input | None
    reply: Reply | None = None
