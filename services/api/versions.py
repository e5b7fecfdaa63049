"""Versions as api needs them: found by name or id, compiled once without an expression language.

A version is immutable, so what was made of it stays right. Which version is the latest may change: that is
remembered for a moment only, and many who ask at once share one query.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from services.adapters.clock import Clock
from services.adapters.json_schema import InputSchema
from services.adapters.postgres.watching import WatchStore
from services.adapters.postgres.workflows import WorkflowStore
from services.api.batching import Batcher
from services.core.definition.parse import parse_definition
from services.core.expressions import Program
from services.core.graph import CompiledWorkflow, RetryDefaults, compile_workflow
from services.core.ids import uuid_text
from services.core.records import VersionRow, WorkflowRow
from services.core.refusals import Kind, Refusal

LATEST = "latest"
LATEST_SECONDS = 0.3
LOOKUPS_MAX = 10_000
NODES_KEPT_MAX = 200_000
ValueT = TypeVar("ValueT")


class _NoProgram:
    """Stands for an expression that nobody here evaluates."""

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """Never called: `apply` evaluates nothing."""
        raise AssertionError("api evaluates no expressions")


class NoExpressions:
    """Compiler for readers: what was saved has been compiled before."""

    def compile(self, source: str, names: Collection[str]) -> Program:
        """A program that is never run."""
        return _NO_PROGRAM


_NO_PROGRAM = _NoProgram()


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One version, ready for use. `writes_vars`: some node may change the variables."""

    row: VersionRow
    name: str
    workflow: CompiledWorkflow
    schema: InputSchema | None
    writes_vars: bool


@dataclass(frozen=True, slots=True)
class WorkflowChoice:
    """Which workflow and version a request names; `version` 0 and an empty alias stand for the latest."""

    workflow_id: bytes | None
    workflow_name: str
    version: int = 0
    alias: str = ""

    def metadata(self) -> dict[str, str]:
        """How a refusal names it."""
        if self.workflow_id is not None:
            return {"workflowId": uuid_text(self.workflow_id)}
        return {"workflowName": self.workflow_name}


def workflow_not_found(choice: WorkflowChoice) -> Refusal:
    """No such workflow in the organization."""
    metadata = choice.metadata()
    name = next(iter(metadata.values()))
    return Refusal(
        Kind.NOT_FOUND, "WORKFLOW_NOT_FOUND", f"workflow {name} does not exist", metadata=metadata,
        resource=("workflow", name),
    )  # fmt: skip


class Versions:
    """Finds and keeps versions."""

    def __init__(
        self, clock: Clock, workflows: WorkflowStore, executions: WatchStore, defaults: RetryDefaults
    ) -> None:
        self._clock = clock
        self._workflows = workflows
        self._defaults = defaults
        self._lookups: OrderedDict[Hashable, tuple[float, asyncio.Task[Any]]] = OrderedDict()
        self._kept: OrderedDict[bytes, Version] = OrderedDict()
        self._nodes = 0
        self._executions = executions
        self._by_id = Batcher[bytes, VersionRow](self._read)

    async def find(self, organization_id: str, choice: WorkflowChoice) -> Version:
        """The version that a request names. Raises Refusal when there is none."""
        row = await self.find_row(organization_id, choice)
        return self._kept.get(row.version_id) or self._keep(row)

    async def find_row(self, organization_id: str, choice: WorkflowChoice) -> VersionRow:
        """The row of the version that a request names. Raises Refusal when there is none."""
        if choice.alias not in {"", LATEST}:
            metadata = {**choice.metadata(), "alias": choice.alias}
            raise Refusal(
                Kind.NOT_FOUND, "ALIAS_NOT_FOUND", f"there is no alias {choice.alias}", metadata=metadata,
                resource=("alias", choice.alias),
            )  # fmt: skip
        workflow = await self.workflow(organization_id, choice)
        number = choice.version or workflow.latest_version
        key = (organization_id, workflow.workflow_id, number)
        row: VersionRow | None = await self._shared(
            key, float("inf"), lambda: self._workflows.version(organization_id, workflow.workflow_id, number)
        )
        if row is None:
            self._lookups.pop(key, None)
            metadata = {**choice.metadata(), "version": str(number)}
            raise Refusal(
                Kind.NOT_FOUND, "VERSION_NOT_FOUND", f"workflow {workflow.name} has no version {number}",
                metadata=metadata, resource=("version", str(number)),
            )  # fmt: skip
        return row

    async def workflow(self, organization_id: str, choice: WorkflowChoice) -> WorkflowRow:
        """The workflow that a request names, at most a moment old. Raises Refusal when there is none."""
        workflow_id, name = choice.workflow_id, choice.workflow_name
        key = (organization_id, workflow_id or name)

        def look() -> Awaitable[WorkflowRow | None]:
            if workflow_id is not None:
                return self._workflows.by_id(organization_id, workflow_id)
            return self._workflows.by_name(organization_id, name)

        row: WorkflowRow | None = await self._shared(key, LATEST_SECONDS, look)
        if row is None:
            self._lookups.pop(key, None)
            raise workflow_not_found(choice)
        return row

    async def named(self, organization_id: str, name: str) -> bytes | None:
        """Id of the workflow with a name, None when there is none."""
        try:
            return (await self.workflow(organization_id, WorkflowChoice(None, name))).workflow_id
        except Refusal as refusal:
            if refusal.kind is Kind.NOT_FOUND:
                return None
            raise

    def saved(self, workflow: WorkflowRow) -> None:
        """A version was saved through this process: forget what was the latest."""
        for name in (workflow.workflow_id, workflow.name):
            self._lookups.pop((workflow.organization_id, name), None)

    async def by_id(self, version_id: bytes) -> Version:
        """The version that an execution is pinned to."""
        version = self._kept.get(version_id)
        if version is not None:
            self._kept.move_to_end(version_id)
            return version
        row = await self._by_id.get(version_id)
        if row is None:
            raise LookupError(f"version {version_id.hex()} is not stored")
        return self._kept.get(version_id) or self._keep(row)

    async def _read(self, version_ids: list[bytes]) -> dict[bytes, VersionRow]:
        return {row.version_id: row for row in await self._executions.versions(version_ids)}

    async def _shared(self, key: Hashable, seconds: float, look: Callable[[], Awaitable[ValueT]]) -> ValueT:
        """Result of `look`, shared by all who ask for the same within `seconds`."""
        now = self._clock.monotonic()
        known = self._lookups.get(key)
        if known is not None and now < known[0]:
            lookup: asyncio.Task[ValueT] = known[1]
            if not lookup.done():
                return await asyncio.shield(lookup)
            if not lookup.cancelled() and lookup.exception() is None:
                return lookup.result()
        task: asyncio.Task[ValueT] = asyncio.ensure_future(look())
        self._lookups[key] = (now + seconds, task)
        self._lookups.move_to_end(key)
        while len(self._lookups) > LOOKUPS_MAX:
            self._lookups.popitem(last=False)
        return await asyncio.shield(task)

    def _keep(self, row: VersionRow) -> Version:
        parsed, problems = parse_definition(orjson.loads(row.definition))
        if parsed is None:
            raise ValueError(f"stored version {row.version_id.hex()} cannot be parsed: {problems[:3]}")
        workflow = compile_workflow(parsed, NoExpressions(), self._defaults)
        schema = InputSchema(parsed.input_schema) if parsed.input_schema is not None else None
        writes_vars = any(node.type == "set" for node in workflow.nodes)
        version = self._kept[row.version_id] = Version(row, parsed.name, workflow, schema, writes_vars)
        self._nodes += len(workflow.nodes)
        while self._nodes > NODES_KEPT_MAX and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._nodes -= len(old.workflow.nodes)
        return version
