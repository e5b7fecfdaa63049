"""Compiled versions, kept by id: a version is immutable, so what was compiled once stays right."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import orjson

from services.adapters.postgres.executions import ExecutionStore
from services.core.definition.parse import parse_definition
from services.core.expressions import ExpressionCompiler
from services.core.graph import CompiledWorkflow, RetryDefaults, compile_workflow

# Compiled workflows kept, by the number of their nodes; those of open executions stay alive through them.
NODES_KEPT_MAX = 200_000


class VersionCache:
    """Least recently used versions leave when too many nodes are held."""

    def __init__(self, rows: ExecutionStore, compiler: ExpressionCompiler, defaults: RetryDefaults) -> None:
        self._rows = rows
        self._compiler = compiler
        self._defaults = defaults
        self._kept: OrderedDict[bytes, CompiledWorkflow] = OrderedDict()
        self._nodes = 0

    async def get(self, version_ids: Iterable[bytes]) -> dict[bytes, CompiledWorkflow]:
        """Compiled workflows of these versions; those that rows do not have are left out."""
        found: dict[bytes, CompiledWorkflow] = {}
        missing: list[bytes] = []
        for version_id in version_ids:
            compiled = self._kept.get(version_id)
            if compiled is None:
                missing.append(version_id)
            else:
                self._kept.move_to_end(version_id)
                found[version_id] = compiled
        if missing:
            for row in await self._rows.versions(missing):
                found[row.version_id] = self._keep(row.version_id, row.definition)
        return found

    def _keep(self, version_id: bytes, definition: bytes) -> CompiledWorkflow:
        parsed, problems = parse_definition(orjson.loads(definition))
        if parsed is None:
            raise ValueError(f"stored version {version_id.hex()} cannot be parsed: {problems[:3]}")
        compiled = compile_workflow(parsed, self._compiler, self._defaults)
        self._kept[version_id] = compiled
        self._nodes += len(compiled.nodes)
        while self._nodes > NODES_KEPT_MAX and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._nodes -= len(old.nodes)
        return compiled
