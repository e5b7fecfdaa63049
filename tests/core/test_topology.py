"""Graph algorithms against their plain definitions."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.core.topology import ancestor_masks, bits, find_cycle, gated_by, topological_order


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Number of nodes and links of an acyclic graph whose nodes are shuffled."""
    count = draw(st.integers(1, 12))
    names = draw(st.permutations(range(count)))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(
        lambda pair: pair[0] < pair[1]
    )
    links = draw(st.lists(pairs, max_size=30)) if count > 1 else []
    return count, [(names[source], names[target]) for source, target in links]


def adjacency(count: int, links: list[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    successors: list[list[int]] = [[] for _ in range(count)]
    predecessors: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        successors[source].append(target)
        predecessors[target].append(source)
    return successors, predecessors


def reachable(start: int, neighbours: list[list[int]], without: int = -1) -> set[int]:
    seen: set[int] = set()
    waiting = [n for n in neighbours[start] if n != without]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(n for n in neighbours[node] if n != without)
    return seen


@given(graphs())
def test_order_and_ancestors(made: tuple[int, list[tuple[int, int]]]) -> None:
    count, links = made
    successors, predecessors = adjacency(count, links)
    order = topological_order(successors, predecessors)
    place = {node: index for index, node in enumerate(order)}
    assert sorted(order) == list(range(count))
    assert all(place[source] < place[target] for source, target in links)
    masks = ancestor_masks(order, predecessors)
    for node in range(count):
        assert {order[bit] for bit in bits(masks[node])} == reachable(node, predecessors)
        assert list(bits(masks[node])) == sorted(bits(masks[node]))
    assert find_cycle(successors, predecessors, order) == []


@given(graphs(), st.data())
def test_gated_nodes_are_those_that_reach_no_end_without_the_join(
    made: tuple[int, list[tuple[int, int]]], data: st.DataObject
) -> None:
    count, links = made
    successors, predecessors = adjacency(count, links)
    join = data.draw(st.integers(0, count - 1))
    ends = {node for node in range(count) if not successors[node]}
    expected = [
        node
        for node in range(count)
        if node != join
        and join in reachable(node, successors)
        and not ends & ({node} | reachable(node, successors, without=join))
    ]
    assert gated_by(join, successors, predecessors) == expected


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_a_cycle_is_named(count: int, pairs: list[tuple[int, int]]) -> None:
    links = [(source % count, target % count) for source, target in pairs if source % count != target % count]
    successors, predecessors = adjacency(count, links)
    order = topological_order(successors, predecessors)
    cycle = find_cycle(successors, predecessors, order)
    assert bool(cycle) == (len(order) < count)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(link in links for link in pairwise(cycle))
