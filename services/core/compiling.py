"""What compiling resolves: texts against the names in sight, retry policies against their defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.core.definition.model import Backoff, RetryPolicy
from services.core.errors import ExpressionError
from services.core.expressions import ExpressionCompiler
from services.core.references import Mentions, References, mentions
from services.core.templates import Expression, Template, compile_template
from services.core.units import SECOND

# Defaults of a policy's absent fields.
DEFAULT_COEFFICIENT = 2.0
DEFAULT_JITTER = 0.2
MAX_DELAY_PER_BASE = 100


@dataclass(frozen=True, slots=True)
class RetryDefaults:
    """Policy of a node that has none, from the configuration."""

    max_attempts: int = 3
    backoff: Backoff = Backoff.EXPONENTIAL
    base_delay_us: int = 2 * SECOND


@dataclass(frozen=True, slots=True)
class ResolvedRetry:
    """A retry policy with every field known. `max_attempts` counts the first; 0 is unlimited."""

    max_attempts: int = 3
    backoff: Backoff = Backoff.EXPONENTIAL
    base_delay_us: int = 2 * SECOND
    coefficient: float = DEFAULT_COEFFICIENT
    max_delay_us: int = 200 * SECOND
    jitter: float = DEFAULT_JITTER
    retryable: frozenset[str] = frozenset()
    non_retryable: frozenset[str] = frozenset()
    max_elapsed_us: int | None = None


def resolve_retry(
    own: RetryPolicy | None, workflow: RetryPolicy | None, defaults: RetryDefaults, *, local: bool = False
) -> ResolvedRetry:
    """Policy that holds: the node's whole, else the workflow's whole, absent fields by default.

    A node decided in the scheduler (`local`) is never retried.
    """
    policy = own or workflow or RetryPolicy()
    base = defaults.base_delay_us if policy.base_delay_us is None else policy.base_delay_us
    attempts = defaults.max_attempts if policy.max_attempts is None else policy.max_attempts
    return ResolvedRetry(
        max_attempts=1 if local else attempts,
        backoff=policy.backoff or defaults.backoff,
        base_delay_us=base,
        coefficient=DEFAULT_COEFFICIENT if policy.coefficient is None else policy.coefficient,
        max_delay_us=MAX_DELAY_PER_BASE * base if policy.max_delay_us is None else policy.max_delay_us,
        jitter=DEFAULT_JITTER if policy.jitter is None else policy.jitter,
        retryable=frozenset(policy.retryable_errors),
        non_retryable=frozenset(policy.non_retryable_errors),
        max_elapsed_us=policy.max_elapsed_us,
    )


class ExpressionCompilation:
    """Compiles the texts of one definition; remembers which nodes' outputs they use.

    `masks` has for each node the nodes upstream of it as bits at their `position`.
    """

    def __init__(
        self,
        compiler: ExpressionCompiler,
        index_of: dict[str, int],
        masks: Sequence[int],
        position: Sequence[int],
    ) -> None:
        self._compiler = compiler
        self._index_of = index_of
        self._masks = masks
        self._position = position
        self._known: dict[str, tuple[Expression, tuple[str, ...]]] = {}
        self.outputs_used: set[int] = set()

    def expression(self, source: str, path: str, viewer: int | None, *, own: bool = False) -> Expression:
        """Program of a text seen from node `viewer` (None: after all nodes); `own`: the viewer itself is in
        sight.

        Raises `ExpressionError` that begins with `path`.
        """
        known = self._known.get(source)
        try:
            if known is None:
                known = self._compile(source)
                self._known[source] = known
            expression, names = known
            if names and viewer is not None:
                self._require_upstream(source, names, viewer, own)
        except ExpressionError as error:
            raise ExpressionError(f"{path}: {error}") from None
        return expression

    def template(self, value: Any, path: str, viewer: int | None) -> Template:
        """Template of a value seen from node `viewer` (None: after all nodes). Raises like `expression`."""
        try:
            return compile_template(value, lambda source: self.expression(source, path, viewer))
        except ExpressionError as error:
            text = str(error)
            raise ExpressionError(text if text.startswith(path) else f"{path}: {text}") from None

    def _compile(self, source: str) -> tuple[Expression, tuple[str, ...]]:
        found = mentions(source)
        if found.whole_nodes:
            raise ExpressionError(f"`{source}`: write `nodes.<id>`; `nodes` as a whole is no value")
        references = self._references(source, found)
        program = self._compiler.compile(source, found.names())
        for node, fields in found.nodes.items():
            if not fields.isdisjoint(_WITH_OUTPUT):
                self.outputs_used.add(self._index_of[node])
        return Expression(source, program, references), tuple(found.nodes)

    def _references(self, source: str, found: Mentions) -> References:
        unknown = [node for node in found.nodes if node not in self._index_of]
        if unknown:
            raise ExpressionError(f"`{source}`: there is no node `{unknown[0]}`")
        return References(
            tuple(sorted(self._index_of[node] for node in found.nodes)),
            "input" in found.base,
            "vars" in found.base,
            "execution" in found.base,
            "now" in found.base,
        )

    def _require_upstream(self, source: str, names: tuple[str, ...], viewer: int, own: bool) -> None:
        mask = self._masks[viewer]
        for node in names:
            index = self._index_of[node]
            if not mask >> self._position[index] & 1 and not (own and index == viewer):
                raise ExpressionError(
                    f"`{source}`: node `{node}` is not upstream, so its output is not known here"
                )


# Selections of `nodes.<id>` that need its output: the field itself and the whole view.
_WITH_OUTPUT = frozenset({"output", ""})
