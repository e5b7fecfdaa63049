"""Graph algorithms over node indices; they know nothing of definitions.

`successors[i]` and `predecessors[i]` are the neighbours of node i, duplicates allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

Neighbours = Sequence[Sequence[int]]


def topological_order(successors: Neighbours, predecessors: Neighbours) -> list[int]:
    """Kahn's order, ties by index. Nodes on a cycle or behind one are missing from it."""
    open_edges = [len(before) for before in predecessors]
    ready = [node for node, count in enumerate(open_edges) if count == 0]
    heapify(ready)
    order: list[int] = []
    while ready:
        node = heappop(ready)
        order.append(node)
        for successor in successors[node]:
            open_edges[successor] -= 1
            if open_edges[successor] == 0:
                heappush(ready, successor)
    return order


def find_cycle(successors: Neighbours, predecessors: Neighbours, order: Sequence[int]) -> list[int]:
    """One cycle of a graph, its first node repeated at the end; empty when `order` lacks no node."""
    left = set(range(len(successors))).difference(order)
    if not left:
        return []
    # Every node that is left has a predecessor that is left, so walking backwards must come round.
    node = min(left)
    seen: dict[int, int] = {}
    walked: list[int] = []
    while node not in seen:
        seen[node] = len(walked)
        walked.append(node)
        node = next(before for before in predecessors[node] if before in left)
    cycle = [*walked[seen[node] :], node]
    cycle.reverse()
    return cycle


def ancestor_masks(order: Sequence[int], predecessors: Neighbours) -> list[int]:
    """For each node the set of nodes upstream of it, as a bit mask over *positions* in `order`.

    Bits in ascending order are therefore upstream nodes in topological order. Nodes not in `order` have none.
    """
    position = {node: place for place, node in enumerate(order)}
    masks = [0] * len(predecessors)
    for node in order:
        mask = 0
        for before in predecessors[node]:
            mask |= masks[before] | (1 << position[before])
        masks[node] = mask
    return masks


def bits(mask: int) -> Iterator[int]:
    """Positions of the set bits, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def gated_by(join: int, successors: Neighbours, predecessors: Neighbours) -> list[int]:
    """Nodes, the join excluded, from which every path to an end passes through `join`, in ascending order."""
    upstream: set[int] = set()
    waiting = list(predecessors[join])
    while waiting:
        node = waiting.pop()
        if node not in upstream:
            upstream.add(node)
            waiting.extend(predecessors[node])
    # A node is gated when all its successors are; a successor that is not upstream leads past the join.
    left = {node: len(successors[node]) for node in upstream}
    gated: list[int] = []
    done = [join]
    while done:
        for before in predecessors[done.pop()]:
            left[before] -= 1
            if left[before] == 0:
                gated.append(before)
                done.append(before)
    return sorted(gated)
