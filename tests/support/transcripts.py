"""Transcripts of the machine: what is told to an execution, and what it makes of it, in lines that people read.

A transcript is a rule in a comment, a definition in YAML, and blocks: directives, `----`, and the expected outcome up
to an empty line. Of an outcome the lines are

    NodeScheduled a#1               events, with the attempt, instants counted from the beginning
    -> DispatchTask a#1             effects
    a: PENDING > SCHEDULED          states that changed, derived ones included; `*` is the execution
    (stale)  (refused: REASON)      the verdict, unless the input counted

Directives: `begin` · `start NODE` · `succeed NODE [JSON]` · `fail NODE TYPE [message]` · `lose NODE` · `return NODE` ·
`refuse NODE TYPE` · `tick DURATION` or `tick next` · `cancel [reason]` · `kill [reason]` (a forced cancel) ·
`abort TYPE` · `task NODE` (what its task carries) · `runs` · `progress` · `takeover [N]`
(goes on from a snapshot of all commits, or of the first N, and the history since).
Words `key=value` among them: `attempt`, `runner`, `draw`, `timeout`, `retry_after`, `retryable`, `details`, `cpu`, `memory`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import yaml

from services.adapters.json_codec import JSON
from services.core import inputs
from services.core.definition.duration import duration_text, duration_us
from services.core.errors import NodeError
from services.core.events import EdgeChoice, Event
from services.core.machine import Decision, Verdict
from services.core.machine.bindings import task_bindings
from services.core.machine.timers import next_wake
from services.core.views import NodeRunView, node_runs, progress
from tests.support.machine import EPOCH, Machine, compile_plain

RULE = "----"
HEAD_END = "===="


@dataclass
class Block:
    """Directives and what is expected of them."""

    directives: list[str]
    expected: list[str]


@dataclass
class Transcript:
    """A whole file: `head` is kept as it was written."""

    head: str
    blocks: list[Block]


def read_transcript(text: str) -> Transcript:
    """Parse a file's text."""
    head, _, body = text.partition(f"\n{HEAD_END}\n")
    blocks = []
    for part in body.strip("\n").split("\n\n"):
        directives, _, expected = part.partition(f"\n{RULE}")
        blocks.append(Block(directives.strip("\n").split("\n"), expected.strip("\n").split("\n")))
    return Transcript(head, blocks)


def written(transcript: Transcript) -> str:
    """Text of a transcript."""
    parts = [
        "\n".join([*block.directives, RULE, *block.expected]).rstrip("\n") for block in transcript.blocks
    ]
    return f"{transcript.head}\n{HEAD_END}\n\n" + "\n\n".join(parts) + "\n"


def run_transcript(transcript: Transcript) -> Transcript:
    """The same transcript with the outcomes that the machine has now."""
    plain = yaml.safe_load(transcript.head)
    given = plain.pop("input", None)
    told = Told(Machine(compile_plain(plain), b"" if given is None else JSON.dumps(given)))
    return Transcript(
        transcript.head,
        [
            Block(b.directives, [line for d in b.directives for line in told.tell(d)])
            for b in transcript.blocks
        ],
    )


class Told:
    """One execution and the directives it understands."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.ids = [node.id for node in machine.workflow.nodes]

    def tell(self, directive: str) -> Iterator[str]:
        """Carry out one directive and say what came of it."""
        name, *words = directive.split("#", 1)[0].split(" ")
        options = dict(word.split("=", 1) for word in words if "=" in word and word[0].islower())
        rest = [word for word in words if word and word.split("=", 1)[0] not in options]
        show: dict[str, Callable[[], Iterator[str]]] = {
            "runs": self._runs,
            "progress": self._progress,
            "takeover": lambda: self._takeover(rest),
            "task": lambda: iter([self._bindings(rest[0])]),
        }
        if name in show:
            yield from show[name]()
            return
        before = [node.status for node in self.machine.state.nodes]
        status = self.machine.state.status
        decision = self.machine.decide(self._input(name, rest, options), float(options.get("draw", "0.5")))
        self.machine.check_ways()
        if name != "tick" or decision.events:
            yield from self._outcome(decision)
        if self.machine.state.status is not status:
            yield f"*: {status.name} > {self.machine.state.status.name}"
        for index, (old, node) in enumerate(zip(before, self.machine.state.nodes, strict=True)):
            if node.status is not old:
                yield f"{self.ids[index]}: {old.name} > {node.status.name}"

    def _input(self, name: str, words: list[str], options: dict[str, str]) -> inputs.Input:
        now = self.machine.now
        if name == "begin":
            return inputs.Begin()
        if name == "tick":
            self._advance(words[0])
            return inputs.TimersDue()
        if name in ("cancel", "kill"):
            return inputs.Cancel(" ".join(words), "user", name == "kill")
        if name == "abort":
            return inputs.Abort(self._error(words, options))
        node = self.machine.workflow.index_of.get(words[0], 99)
        run = self.machine.state.nodes[node] if node < len(self.ids) else self.machine.state.nodes[0]
        attempt = int(options.get("attempt", run.attempt))
        runner, started = options.get("runner", run.runner_id or "r1"), run.started_at or now
        if name == "start":
            return inputs.TaskStarted(node, attempt, runner, now)
        if name == "succeed":
            cpu, memory = float(options.get("cpu", "0")), int(options.get("memory", "0"))
            output = " ".join(words[1:]).encode()
            return inputs.TaskSucceeded(node, attempt, output, runner, started, now, cpu, memory)
        if name == "fail":
            return inputs.TaskFailed(node, attempt, self._error(words[1:], options), runner, started, now)
        if name == "lose":
            return inputs.TaskLost(node, attempt, runner)
        if name == "return":
            return inputs.TaskReturned(node, attempt, runner)
        assert name == "refuse", f"unknown directive {name}"
        return inputs.TaskRefused(node, attempt, self._error(words[1:], options))

    def _advance(self, by: str) -> None:
        if by == "next":
            wake = next_wake(self.machine.state)
            assert wake is not None, "no timer is set"
            self.machine.now = max(self.machine.now, wake)
        else:
            step = duration_us(by)
            assert step is not None, by
            self.machine.now += step

    @staticmethod
    def _error(words: list[str], options: dict[str, str]) -> NodeError:
        return NodeError(
            words[0],
            " ".join(words[1:]) or "it broke",
            retryable=options.get("retryable") != "false",
            details=options.get("details", "").encode(),
            timeout=options.get("timeout", ""),
            retry_after_us=duration_us(options.get("retry_after", "0s")) or 0,
        )

    def _outcome(self, decision: Decision) -> Iterator[str]:
        if decision.verdict is Verdict.STALE:
            yield "(stale)"
        elif decision.verdict is Verdict.REFUSED:
            yield f"(refused: {decision.reason})"
        for event in decision.events:
            yield self.event_line(event)
        for effect in decision.effects:
            node, attempt = getattr(effect, "node", None), getattr(effect, "attempt", 0)
            what = f"{self.ids[node]}#{attempt}" if node is not None else getattr(effect, "status", "")
            yield f"-> {type(effect).__name__} {what}"
        if not decision.events and decision.verdict is Verdict.COUNTED:
            yield "(nothing)"

    def event_line(self, event: Event) -> str:
        """One event with the fields that say something."""
        parts = [type(event).__name__]
        node, attempt = getattr(event, "node", None), getattr(event, "attempt", 0)
        if node is not None:
            parts.append(self.ids[node] + (f"#{attempt}" if attempt else ""))
        for field in fields(event):
            value = getattr(event, field.name)
            if field.name in ("node", "attempt") or value in (b"", "", 0, (), None, False, "out"):
                continue
            parts.append(self._field(field.name, value))
        return " ".join(parts)

    def _field(self, name: str, value: Any) -> str:
        if name == "choices":
            return " ".join(self._choice(choice) for choice in value)
        if name == "taken":
            return "taken=" + ",".join(self._edge(edge) for edge in value)
        if isinstance(value, NodeError):
            return f"{name}={self._error_text(value)}"
        if name == "until" or name.endswith(("_at", "_until")):
            return f"{name}={instant(value)}"
        if isinstance(value, bytes):
            return f"{name}={value.decode()}"
        return name if value is True else f"{name}={value}"

    def _error_text(self, error: NodeError) -> str:
        flags = [error.timeout] if error.timeout else []
        flags += [] if error.retryable else ["final"]
        flags += [self.ids[error.node]] if error.node >= 0 else []
        return f"{error.type}({', '.join([repr(error.message), *flags])})"

    def _edge(self, index: int) -> str:
        edge = self.machine.workflow.edges[index]
        return f"{self.ids[edge.source]}>{self.ids[edge.target]}"

    def _choice(self, choice: EdgeChoice) -> str:
        message = f"({choice.message!r})" if choice.message else ""
        return f"{self._edge(choice.edge)}={choice.outcome.name}{message}"

    def _bindings(self, node: str) -> str:
        return task_bindings(self.machine.state, self.ids.index(node), self.machine.now).decode()

    def _takeover(self, words: list[str]) -> Iterator[str]:
        commits = int(words[0]) if words else len(self.machine.commits)
        self.machine.state = self.machine.restored(commits)
        yield "taken over"

    def _runs(self) -> Iterator[str]:
        for run in node_runs(self.machine.state):
            yield _run_line(run)
            for attempt in run.attempts:
                parts = [f"  #{attempt.attempt} {attempt.status.name}"]
                parts += [f"started={instant(attempt.started_at)}"] if attempt.started_at else []
                parts += [f"ended={instant(attempt.ended_at)}"] if attempt.ended_at else []
                parts += [f"error={attempt.error.type}"] if attempt.error else []
                parts += [f"delay={duration_text(attempt.retry_delay_us)}"] if attempt.retry_delay_us else []
                parts += [f"runner={attempt.runner_id}"] if attempt.runner_id else []
                yield " ".join(parts + ["lost"] * attempt.lost)

    def _progress(self) -> Iterator[str]:
        shown = progress(self.machine.state)
        yield (
            f"{shown.done}/{shown.total} {shown.percent}% running={shown.running} waiting={shown.waiting} "
            f"failed={shown.failed}"
        )


def _run_line(run: NodeRunView) -> str:
    parts = [f"{run.id} {run.status.name}"]
    parts += [f"waits for {run.wait.waiting_for}"] if run.wait else []
    parts += [f"since {instant(run.wait.since)}"] if run.wait and run.wait.since else []
    parts += [f"until {instant(run.wait.until)}"] if run.wait and run.wait.until else []
    parts += [f"took {duration_text(run.duration_us)}"] if run.duration_us is not None else []
    parts += [f"error={run.error.type}"] if run.error else []
    return " ".join(parts)


def instant(value: int) -> str:
    """An instant as the time since the beginning."""
    return ("+" if value >= EPOCH else "-") + duration_text(abs(value - EPOCH))
