"""What readers are shown: node runs, progress, metrics."""

from __future__ import annotations

from services.core import inputs
from services.core.errors import NodeError
from services.core.states import NodeStatus
from services.core.units import SECOND
from services.core.views import OPEN_NODES_MAX, metrics, node_run, progress
from tests.support.machine import EPOCH, Machine, compile_plain


def _machine(**node: object) -> Machine:
    nodes = [{"id": "a", "type": "work", "name": "Ask", **node}, {"id": "b", "type": "work", "when": "false"}]
    machine = Machine(compile_plain({"name": "w", "nodes": nodes}))
    machine.decide(inputs.Begin())
    return machine


def test_metrics_count_sum_and_average() -> None:
    machine = _machine(retry_policy={"backoff": "FIXED", "base_delay": "1s", "jitter": 0})
    now = EPOCH
    failed = inputs.TaskFailed(0, 1, NodeError("NETWORK", "it broke"), "r1", now + SECOND, now + 2 * SECOND)
    machine.decide(failed)
    machine.now += 5 * SECOND
    machine.decide(inputs.TimersDue())
    machine.decide(
        inputs.TaskSucceeded(0, 2, b"1", "r1", now + 5 * SECOND, now + 6 * SECOND, 1.5, 700),
    )
    shown = metrics(machine.state)
    assert (shown.total_nodes, shown.successful_nodes, shown.failed_nodes, shown.skipped_nodes) == (
        2,
        1,
        0,
        1,
    )
    assert (shown.nodes_executed, shown.nodes_failed) == (1, 0)
    assert shown.average_node_execution_time_ms == 5_000  # from its first start to its end
    assert (shown.memory_usage_bytes, shown.cpu_usage_seconds) == (700, 1.5)


def test_metrics_of_nothing() -> None:
    shown = metrics(_machine().state)
    assert shown.average_node_execution_time_ms == 0.0
    assert shown.nodes_executed == 0


def test_a_node_run_names_what_the_author_named() -> None:
    machine = _machine()
    run = node_run(machine.state, 0)
    assert (run.id, run.name, run.type, run.max_attempts) == ("a", "Ask", "work", 3)
    assert node_run(machine.state, 1).name == "b"
    assert node_run(machine.state, 1).max_attempts == 3


def test_only_a_success_has_an_output() -> None:
    machine = _machine(on_error="CONTINUE")
    assert node_run(machine.state, 0).output_sequence is None
    machine.decide(inputs.TaskSucceeded(0, 1, b"1", "r1", EPOCH, EPOCH))
    run = node_run(machine.state, 0)
    assert run.output_sequence == 4  # started, scheduled, skipped, succeeded
    assert run.port == "out"
    failing = _machine(on_error="CONTINUE")
    failing.decide(inputs.TaskFailed(0, 1, NodeError("VALIDATION", "no"), "r1", EPOCH, EPOCH))
    run = node_run(failing.state, 0)
    assert (run.status, run.output_sequence, run.port, run.continued) == (NodeStatus.FAILED, None, "", True)


def test_progress_is_rounded_down_and_100_only_at_the_end() -> None:
    nodes = [{"id": f"n{i}", "type": "work"} for i in range(300)]
    machine = Machine(compile_plain({"name": "w", "nodes": nodes}))
    assert progress(machine.state).percent == 0
    machine.decide(inputs.Begin())
    percents = []
    for node in range(300):
        machine.decide(inputs.TaskSucceeded(node, 1, b"", "r1", EPOCH, EPOCH))
        percents.append(progress(machine.state).percent)
    assert percents == sorted(percents)
    assert percents[-2:] == [99, 100]
    assert percents[0] == 0


def test_progress_names_a_bounded_number_of_open_nodes() -> None:
    nodes = [{"id": f"n{i}", "type": "work"} for i in range(OPEN_NODES_MAX + 1)]
    machine = Machine(compile_plain({"name": "w", "nodes": nodes}))
    machine.decide(inputs.Begin())
    machine.decide(inputs.TaskStarted(0, 1, "r1", EPOCH + 1))
    shown = progress(machine.state)
    assert (shown.running, len(shown.open_nodes)) == (OPEN_NODES_MAX + 1, OPEN_NODES_MAX)
    assert (shown.open_nodes[0].since, shown.open_nodes[0].wait) == (EPOCH + 1, None)
