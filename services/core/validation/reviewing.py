"""What the checks of a definition share: the problems found so far, and the graph by index."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from services.core.definition.model import Definition
from services.core.errors import Problem, Severity
from services.core.topology import ancestor_masks, topological_order


class Review:
    """A definition under review. Edges whose ends are unknown are left out of the graph.

    `edges` has (edge index, source index, target index) of those that are in it; `order` lacks nodes when there is
    a cycle, and `masks` (see `topology.ancestor_masks`) then say nothing of them.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.problems: list[Problem] = []
        self.index_of: dict[str, int] = {}
        for index, node in enumerate(definition.nodes):
            self.index_of.setdefault(node.id, index)
        count = len(definition.nodes)
        self.successors: list[list[int]] = [[] for _ in range(count)]
        self.predecessors: list[list[int]] = [[] for _ in range(count)]
        self.edges: list[tuple[int, int, int]] = []
        for number, edge in enumerate(definition.edges):
            source, target = self.index_of.get(edge.source), self.index_of.get(edge.target)
            if source is None or target is None or source == target:
                continue
            self.edges.append((number, source, target))
            self.successors[source].append(target)
            self.predecessors[target].append(source)
        self.order = topological_order(self.successors, self.predecessors)
        self.position = [0] * count
        for place, index in enumerate(self.order):
            self.position[index] = place
        self.masks = ancestor_masks(self.order, self.predecessors)

    @property
    def cyclic(self) -> bool:
        """Whether the graph has a cycle."""
        return len(self.order) < len(self.definition.nodes)

    def is_upstream(self, node: int, viewer: int) -> bool:
        """Whether `node` is upstream of `viewer`; true for all while the graph has a cycle, which is told already."""
        return self.cyclic or bool(self.masks[viewer] >> self.position[node] & 1)

    def error(self, path: str, reason: str, message: str) -> None:
        """Adds a problem that refuses the definition."""
        self.problems.append(Problem(path, reason, message))

    def warning(self, path: str, reason: str, message: str) -> None:
        """Adds a problem that is shown."""
        self.problems.append(Problem(path, reason, message, Severity.WARNING))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean `x`?` when something known is close, else nothing."""
    # Among thousands of names the search itself would be the expensive part.
    candidates = [name for _, name in zip(range(1_000), known, strict=False)]
    close = get_close_matches(word, candidates, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
