"""Compiled workflows: what a definition says by name, said by index."""

from __future__ import annotations

from typing import Any

import pytest

from services.adapters.cel import CelCompiler
from services.core.definition.model import Backoff, Definition, Edge, Join, Node, RetryPolicy, Strategy
from services.core.definition.parse import parse_definition
from services.core.errors import ExpressionError
from services.core.graph import CompiledWorkflow, References, RetryDefaults, compile_workflow
from services.core.units import MINUTE, SECOND
from tests.support.definitions import edges, graph, noops

CEL = CelCompiler()


def compiled(definition: Definition) -> CompiledWorkflow:
    return compile_workflow(definition, CEL, RetryDefaults())


def from_plain(**plain: Any) -> CompiledWorkflow:
    definition, problems = parse_definition({"name": "w", **plain})
    assert definition is not None, problems
    return compiled(definition)


def test_order_is_topological_with_ties_by_definition() -> None:
    workflow = compiled(graph("d c b a", "a>b", "a>c", "b>d", "c>d"))
    assert [workflow.nodes[index].id for index in workflow.order] == ["a", "c", "b", "d"]
    assert [node.position for node in workflow.nodes] == [3, 1, 2, 0]
    assert workflow.roots == (3,)
    assert workflow.index_of == {"d": 0, "c": 1, "b": 2, "a": 3}


def test_edges_know_their_ends() -> None:
    workflow = compiled(graph("a b", "a>b", "a.error>b"))
    assert workflow.nodes[0].outgoing == (0, 1)
    assert workflow.nodes[1].incoming == (0, 1)
    assert [(edge.source, edge.target, edge.port) for edge in workflow.edges] == [
        (0, 1, "out"),
        (0, 1, "error"),
    ]


def test_a_cycle_is_no_graph() -> None:
    with pytest.raises(ValueError, match="cycle"):
        compiled(graph("a b", "a>b", "b>a"))


def test_texts_see_upstream_nodes_only() -> None:
    nodes = (
        Node("a", "x"),
        Node("b", "x"),
        Node("c", "x", when="nodes.a.output.ok && nodes.b.status == 'success'"),
    )
    workflow = compiled(Definition("w", nodes, edges("a>b", "b>c")))
    when = workflow.nodes[2].when
    assert when is not None
    assert when.references == References(nodes=(0, 1))
    assert (
        when.program.evaluate({"nodes.a": {"output": {"ok": True}}, "nodes.b": {"status": "success"}}) is True
    )
    with pytest.raises(ExpressionError, match=r"nodes\[2\]\.when: .*`a` is not upstream"):
        compiled(Definition("w", nodes, edges("b>c")))
    with pytest.raises(ExpressionError, match="no node `zz`"):
        compiled(Definition("w", (Node("a", "x", when="nodes.zz.output"),)))


def test_an_edge_sees_its_source_and_a_node_does_not_see_itself() -> None:
    workflow = compiled(Definition("w", noops("a", "b"), (Edge("a", "b", when="nodes.a.output.ok"),)))
    assert workflow.edges[0].when is not None
    with pytest.raises(ExpressionError, match="not upstream"):
        compiled(Definition("w", (Node("a", "x", when="nodes.a.output.ok"),)))
    with pytest.raises(ExpressionError, match="not upstream"):
        compiled(Definition("w", noops("a", "b"), (Edge("a", "b", when="nodes.b.output.ok"),)))


def test_the_output_sees_every_node() -> None:
    workflow = compiled(Definition("w", noops("a", "b"), output={"a": "${nodes.a.output}", "v": "${vars.x}"}))
    assert workflow.output is not None
    assert workflow.output.references == References(nodes=(0,), vars=True)


def test_retained_outputs_are_those_referred_to_and_merged() -> None:
    nodes = (
        *noops("a", "b", "c", "d"),
        Node("m", "merge"),
        Node("e", "x", parameters={"p": "${ nodes.a.output.z } ${ nodes.b.status }"}),
    )
    workflow = compiled(Definition("w", nodes, edges("a>c", "b>c", "c>m", "d>m", "m>e")))
    assert {workflow.nodes[index].id for index in workflow.retained} == {"a", "c", "d"}


def test_parameters_of_a_task() -> None:
    workflow = from_plain(
        nodes=[
            {"id": "a", "type": "x"},
            {
                "id": "b",
                "type": "x",
                "parameters": {"z": "${ nodes.a.output }", "i": "${input.q}", "e": "${now}"},
            },
        ],
        edges=[{"source": "a", "target": "b"}],
    )
    node = workflow.nodes[1]
    assert node.references == References(nodes=(0,), input=True, now=True)
    assert node.parameters_json == b'{"e":"${now}","i":"${input.q}","z":"${ nodes.a.output }"}'
    assert workflow.nodes[0].parameters_json == b""
    assert workflow.nodes[0].parameters is None
    assert not node.local
    assert (node.task_queue, node.slots, node.priority, node.name) == ("default", 1, None, "b")


def test_parameters_of_nodes_decided_in_the_scheduler() -> None:
    workflow = from_plain(
        nodes=[
            {"id": "c", "type": "condition", "parameters": {"condition": "input.n > 1"}},
            {
                "id": "s",
                "type": "switch",
                "parameters": {"cases": [{"port": "eu", "when": "input.r == 'EU'"}], "default": "other"},
            },
            {"id": "d", "type": "delay", "parameters": {"until": "timestamp(now) + duration('1h')"}},
            {"id": "v", "type": "set", "parameters": {"vars": {"x": "${ input.n }", "y": 1}}},
            {"id": "f", "type": "fail", "parameters": {"type": "T", "message": "m ${ input.n }"}},
        ]
    )
    condition, switch, delay, variables, fail = workflow.nodes
    assert all(node.local for node in workflow.nodes)
    assert condition.condition is not None
    assert condition.condition.program.evaluate({"input": {"n": 2}}) is True
    assert condition.parameters is None
    assert [(port, case.source) for port, case in switch.cases] == [("eu", "input.r == 'EU'")]
    assert switch.default_port == "other"
    assert switch.ports == {"eu", "other", "error", "timeout"}
    assert condition.ports == {"true", "false", "error", "timeout"}
    assert delay.until is not None
    assert delay.until.program.evaluate({"now": "2026-01-01T00:00:00Z"}) == "2026-01-01T01:00:00Z"
    assert {name: t.resolve({"input": {"n": 3}}) for name, t in variables.set_vars} == {"x": 3, "y": 1}
    assert variables.references == References(input=True)
    assert fail.parameters is not None
    assert fail.parameters.resolve({"input": {"n": 3}}) == {"type": "T", "message": "m 3"}


def test_writers_of_variables_are_those_upstream_in_order() -> None:
    def variable(node_id: str) -> Node:
        return Node(node_id, "set", parameters={"vars": {node_id: 1}})

    nodes = (
        *map(variable, ("w3", "w1", "side")),
        Node("reader", "x", parameters={"p": "${ vars.w1 }"}),
        Node("edge_reader", "x"),
        Node("blind", "x"),
    )
    links = (
        *edges("w1>w3", "w3>reader", "side>blind", "w3>edge_reader"),
        Edge("edge_reader", "blind", when="vars.w1 == 1"),
    )
    workflow = compiled(Definition("w", nodes, links))
    writers = {node.id: [workflow.nodes[w].id for w in node.var_writers] for node in workflow.nodes}
    assert writers["reader"] == ["w1", "w3"]
    assert writers["edge_reader"] == ["w1", "w3"]
    assert writers["blind"] == []


def test_a_join_cancels_what_can_only_lead_to_it() -> None:
    nodes = (
        *noops("start", "a", "b", "b2", "leak", "aside"),
        Node("join", "noop", join=Join.ANY, cancel_others=True),
        *noops("end_"),
    )
    links = edges(
        "start>a",
        "start>b",
        "start>leak",
        "b>b2",
        "a>join",
        "b2>join",
        "leak>join",
        "leak>aside",
        "join>end_",
    )
    workflow = compiled(Definition("w", nodes, links))
    join = workflow.nodes[workflow.index_of["join"]]
    assert [workflow.nodes[index].id for index in join.cancel_set] == ["a", "b", "b2"]


def test_retry_policies() -> None:
    nodes = (
        Node("none", "x"),
        Node("own", "x", retry_policy=RetryPolicy(backoff=Backoff.FIXED, base_delay_us=SECOND)),
        Node("local", "noop"),
    )
    plain = compiled(Definition("w", nodes))
    assert (plain.nodes[0].retry.max_attempts, plain.nodes[0].retry.base_delay_us) == (3, 2 * SECOND)
    assert plain.nodes[0].retry.max_delay_us == 200 * SECOND
    assert (plain.nodes[0].retry.coefficient, plain.nodes[0].retry.jitter) == (2.0, 0.2)
    assert plain.nodes[0].retry.backoff is Backoff.EXPONENTIAL
    assert plain.nodes[2].retry.max_attempts == 1
    workflow_policy = RetryPolicy(
        max_attempts=0, base_delay_us=5 * SECOND, max_delay_us=MINUTE, retryable_errors=("N",)
    )
    both = compiled(Definition("w", nodes, default_retry_policy=workflow_policy))
    assert both.nodes[0].retry.max_attempts == 0
    assert both.nodes[0].retry.retryable == {"N"}
    own = both.nodes[1].retry
    assert (own.max_attempts, own.backoff, own.base_delay_us, own.max_delay_us) == (
        3,
        Backoff.FIXED,
        SECOND,
        100 * SECOND,
    )
    assert own.retryable == frozenset()
    other = compile_workflow(Definition("w", nodes), CEL, RetryDefaults(max_attempts=7, base_delay_us=SECOND))
    assert other.nodes[0].retry.max_attempts == 7


def test_workflow_fields() -> None:
    workflow = from_plain(
        nodes=[{"id": "a", "type": "noop"}],
        vars={"x": {"y": 1}, "z": "$${"},
        timeout="2m",
        strategy="sequential",
        max_parallel_nodes=4,
    )
    assert workflow.initial_vars == {"x": {"y": 1}, "z": "${"}
    assert workflow.initial_vars_json == b'{"x":{"y":1},"z":"${"}'
    assert (workflow.timeout_us, workflow.sequential, workflow.max_parallel) == (2 * MINUTE, True, 4)
    assert workflow.definition.strategy is Strategy.SEQUENTIAL


def test_the_same_text_is_compiled_once() -> None:
    nodes = (Node("a", "x", when="input.n > 1"), Node("b", "x", when="input.n > 1"))
    workflow = compiled(Definition("w", nodes))
    assert workflow.nodes[0].when is workflow.nodes[1].when
