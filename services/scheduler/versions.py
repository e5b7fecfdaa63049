"""Compiled versions, kept by id: a version is immutable, so what was compiled once stays right."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import orjson

from services.adapters.log import get_logger
from services.adapters.postgres.executions import ExecutionStore
from services.core.definition.parse import parse_definition
from services.core.expressions import ExpressionCompiler
from services.core.graph import CompiledWorkflow, RetryDefaults, compile_workflow
from services.core.records import VersionRow
from services.core.units import KIB

# Compiled workflows kept, by the number of their nodes; those of open executions stay alive through them.
NODES_KEPT_MAX = 200_000
# A definition of so many bytes compiles in no time. A longer one may take 10 s, longer than the session's lease.
INLINE_BYTES_MAX = 16 * KIB

log = get_logger(__name__)


class VersionCache:
    """Least recently used versions leave when too many nodes are held."""

    def __init__(self, rows: ExecutionStore, compiler: ExpressionCompiler, defaults: RetryDefaults) -> None:
        self._rows = rows
        self._compiler = compiler
        self._defaults = defaults
        self._kept: OrderedDict[bytes, CompiledWorkflow] = OrderedDict()
        self._nodes = 0
        # One version at a time, whoever asks, and beside the loop: the session's lease is renewed meanwhile.
        self._compiling = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "compile")

    async def get(self, version_ids: Iterable[bytes]) -> dict[bytes, CompiledWorkflow]:
        """Compiled workflows of these versions.

        Those that rows do not have, or that this release cannot compile, are left out.
        """
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
                compiled = await self._compiled(row)
                if compiled is not None:
                    found[row.version_id] = compiled
        return found

    async def _compiled(self, row: VersionRow) -> CompiledWorkflow | None:
        async with self._compiling:
            kept = self._kept.get(row.version_id)
            if kept is not None:
                return kept
            try:
                if len(row.definition) <= INLINE_BYTES_MAX:
                    compiled = self._compile(row)
                else:
                    loop = asyncio.get_running_loop()
                    compiled = await loop.run_in_executor(self._thread, self._compile, row)
            except Exception as error:  # its executions are quarantined; those of all others go on
                log.error("version cannot be compiled", version_id=row.version_id.hex(), exc_info=error)
                return None
            return self._keep(row.version_id, compiled)

    def _compile(self, row: VersionRow) -> CompiledWorkflow:
        parsed, problems = parse_definition(orjson.loads(row.definition))
        if parsed is None:
            raise ValueError(f"stored version {row.version_id.hex()} cannot be parsed: {problems[:3]}")
        return compile_workflow(parsed, self._compiler, self._defaults)

    def _keep(self, version_id: bytes, compiled: CompiledWorkflow) -> CompiledWorkflow:
        self._kept[version_id] = compiled
        self._nodes += len(compiled.nodes)
        while self._nodes > NODES_KEPT_MAX and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._nodes -= len(old.nodes)
        return compiled
