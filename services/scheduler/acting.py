"""After the commit, and only then: tasks, verdicts, answers, cancellations and the hint leave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from services.adapters.nats import topology
from services.adapters.wire.commits import hint_parts
from services.adapters.wire.tasks import encode_answers, encode_control, encode_verdicts
from services.core.effects import CancelTask, CloseExecution, DispatchTask
from services.core.events import (
    AttemptLost,
    AttemptReturned,
    NodeCancelled,
    NodeFailed,
    NodeRetrying,
    NodeStarted,
    NodeSucceeded,
)
from services.core.ports import Committed
from services.core.tasks import AnswerBatch, AttemptRef, Control, VerdictBatch
from services.scheduler.batch import Batch, Change
from services.scheduler.dispatch import Dispatcher
from services.scheduler.items import AskReply, CommandReply, HeldReply, Reply, ResultReply
from services.scheduler.live import Live, LiveTable
from services.scheduler.wakes import Wakes

_ATTEMPT_OVER = (NodeSucceeded, NodeFailed, NodeRetrying, AttemptLost, AttemptReturned, NodeCancelled)

Publish = Callable[[str, bytes], object]


class Actor:
    """Lets the effects of a committed batch out."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        wakes: Wakes,
        live: LiveTable,
        publish: Publish,
        now: Callable[[], int],
    ) -> None:
        self._dispatcher = dispatcher
        self._wakes = wakes
        self._live = live
        self._publish = publish
        self._now = now

    def act(self, batch: Batch, digest: bytes, committed: Committed) -> None:
        """Everything that the batch asked for, tasks first."""
        verdicts: dict[str, VerdictBatch] = defaultdict(lambda: VerdictBatch([], []))
        answers: dict[str, AnswerBatch] = defaultdict(lambda: AnswerBatch([], []))
        cancels: dict[str, list[AttemptRef]] = defaultdict(list)
        for change in batch.changes.values():
            self._settle(change, cancels)
            for reply, counted in change.replies:
                _sort(change.live.id, reply, counted, verdicts, answers, cancels)
        for execution_id, reply in batch.strangers:
            _sort(execution_id, reply, False, verdicts, answers, cancels)
        self._dispatcher.pump()
        for runner_id, verdict in verdicts.items():
            self._publish(topology.runner_subject(runner_id, "verdict"), encode_verdicts(verdict))
        for runner_id, answer in answers.items():
            self._publish(topology.runner_subject(runner_id, "answer"), encode_answers(answer))
        self.cancel(cancels)
        if batch.changes:
            for part in hint_parts(digest):
                self._publish(topology.COMMITS, part)

    def cancel(self, cancels: dict[str, list[AttemptRef]]) -> None:
        """Tell runners which of their attempts nobody needs any more."""
        for runner_id, refs in cancels.items():
            control = Control(cancel=tuple(refs), now=self._now())
            self._publish(topology.runner_subject(runner_id, "control"), encode_control(control))

    def _settle(self, change: Change, cancels: dict[str, list[AttemptRef]]) -> None:
        live, dispatcher = change.live, self._dispatcher
        for event in change.events:
            if isinstance(event, _ATTEMPT_OVER):
                dispatcher.release(live, event.node)
            elif isinstance(event, NodeStarted):
                dispatcher.started(live, event.node, event.attempt, event.runner_id)
        for effect in change.effects:
            match effect:
                case DispatchTask(node, attempt):
                    dispatcher.add(live, node, attempt)
                case CancelTask(node, attempt):
                    self._cancel_task(live, node, attempt, cancels)
                case CloseExecution():
                    dispatcher.release_all(live)
        self._after(change)

    def _cancel_task(self, live: Live, node: int, attempt: int, cancels: dict[str, list[AttemptRef]]) -> None:
        flight = live.in_flight.get(node)
        runner_id = (flight.runner_id if flight else "") or live.state.nodes[node].runner_id
        if runner_id:
            cancels[runner_id].append(AttemptRef(live.id, node, attempt))
        if live.state.nodes[node].status.final:
            self._dispatcher.release(live, node)

    def _after(self, change: Change) -> None:
        live = change.live
        if live.state.status.final or change.put_down:
            self._live.leave(live.id)
            return
        if change.events:
            live.asleep = False
            live.history_bytes += len(change.encoded.events) if change.encoded else 0
        if change.snapshot_bytes:
            live.snapshot_bytes, live.history_bytes = change.snapshot_bytes, 0
        self._wakes.note(live)


def _sort(
    execution_id: bytes,
    reply: Reply,
    counted: bool,
    verdicts: dict[str, VerdictBatch],
    answers: dict[str, AnswerBatch],
    cancels: dict[str, list[AttemptRef]],
) -> None:
    match reply:
        case ResultReply(runner_id, token):
            batch = verdicts[runner_id]
            (batch.counted if counted else batch.stale).append(token)
        case AskReply(runner_id, token):
            answer = answers[runner_id]
            (answer.run if counted else answer.drop).append(token)
        case HeldReply(runner_id, node, attempt):
            if not counted:
                cancels[runner_id].append(AttemptRef(execution_id, node, attempt))
        case CommandReply():
            pass  # its verdict is a row of the commit
