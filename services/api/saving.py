"""Saving workflows: reviewed whole, in a thread of its own, then stored once per content."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from services.adapters.cel import CelCompiler
from services.adapters.clock import Clock
from services.adapters.ids import new_uuid7
from services.adapters.json_schema import JsonSchemas
from services.adapters.postgres.workflows import NewVersion, Saved, WorkflowStore
from services.adapters.tokens import Identity
from services.api.versions import LATEST, Versions, WorkflowChoice
from services.core.definition.canonical import FORM, canonical_bytes, content_hash
from services.core.definition.model import Definition
from services.core.errors import Problem, Severity
from services.core.ids import uuid_text
from services.core.refusals import Kind, Refusal, invalid, invalid_field
from services.core.units import MIB
from services.core.validation import review

DEFINITION_BYTES_MAX = 4 * MIB
FIRST_VERSION = 1


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a review found; `definition` only when it may be saved."""

    definition: Definition | None
    problems: list[Problem]
    canonical: bytes = b""
    content_hash: bytes = b""


class Saver:
    """Reviews and saves definitions."""

    def __init__(
        self,
        clock: Clock,
        store: WorkflowStore,
        versions: Versions,
        known_types: Callable[[], frozenset[str]],
        default_timeout_us: int,
    ) -> None:
        self._clock = clock
        self._store = store
        self._versions = versions
        self._known_types = known_types
        self._default_timeout_us = default_timeout_us
        self._checker = CelCompiler()
        self._schemas = JsonSchemas()
        # A large definition takes a while: in its own thread it keeps no other request waiting.
        self._thread = ThreadPoolExecutor(1, "review")

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def review(self, plain: Any, unread: list[Problem]) -> Reviewed:
        """Everything that can be known of a definition; `unread` is what of the message was not readable."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._review, plain, unread, self._known_types())

    def _review(self, plain: Any, unread: list[Problem], known_types: frozenset[str]) -> Reviewed:
        definition, found = review(
            plain,
            self._checker,
            known_types,
            schemas=self._schemas,
            default_timeout_us=self._default_timeout_us,
        )
        problems = [*unread, *found]
        if definition is None or any(problem.severity is Severity.ERROR for problem in problems):
            return Reviewed(None, problems)
        canonical = canonical_bytes(definition)
        if len(canonical) > DEFINITION_BYTES_MAX:
            message = f"the definition has {len(canonical)} bytes, more than {DEFINITION_BYTES_MAX}"
            return Reviewed(None, [*problems, Problem("", "LIMIT_EXCEEDED", message)])
        return Reviewed(definition, problems, canonical, content_hash(definition))

    async def create(self, identity: Identity, plain: Any, unread: list[Problem]) -> tuple[Saved, Reviewed]:
        """A new workflow, or the same that was created before. Raises Refusal."""
        reviewed = await self.review(plain, unread)
        definition = _accepted(reviewed)
        new = self._new_version(identity, reviewed)
        saved = await self._store.create(identity.organization_id, definition.name, new)
        if saved is None:
            saved = await self._created_before(identity, definition.name, new)
        self._versions.saved(saved.workflow)
        return saved, reviewed

    async def update(
        self,
        identity: Identity,
        choice: WorkflowChoice | None,
        plain: Any,
        unread: list[Problem],
        expected_version: int,
    ) -> tuple[Saved, Reviewed]:
        """The next version, or the one that has the same content. Raises Refusal."""
        reviewed = await self.review(plain, unread)
        definition = _accepted(reviewed)
        choice = choice or WorkflowChoice(None, definition.name, alias=LATEST)
        workflow = await self._versions.workflow(identity.organization_id, choice)
        if workflow.name != definition.name:
            message = f"the workflow is called {workflow.name}; a version cannot rename it"
            raise invalid_field("definition.name", "NAME_DIFFERS", message)
        new = self._new_version(identity, reviewed)
        saved = await self._store.update(
            identity.organization_id, workflow.workflow_id, new, expected_version=expected_version
        )
        if saved is None:
            raise LookupError("a workflow vanished")
        self._versions.saved(saved.workflow)
        if expected_version and not saved.made and saved.version.content_hash != new.content_hash:
            metadata = {
                "expectedVersion": str(expected_version),
                "latestVersion": str(saved.workflow.latest_version),
            }
            message = f"the latest version is {saved.workflow.latest_version}, not {expected_version}"
            raise Refusal(Kind.ABORTED, "VERSION_CONFLICT", message, metadata=metadata)
        return saved, reviewed

    async def _created_before(self, identity: Identity, name: str, new: NewVersion) -> Saved:
        """Version 1 of the same content, though others followed: repeating a creation is harmless."""
        workflow = await self._store.by_name(identity.organization_id, name)
        if workflow is not None:
            first = await self._store.version(identity.organization_id, workflow.workflow_id, FIRST_VERSION)
            if first is not None and first.content_hash == new.content_hash:
                return Saved(workflow, first, made=False)
        metadata = {"workflowName": name}
        if workflow is not None:
            metadata["workflowId"] = uuid_text(workflow.workflow_id)
        raise Refusal(
            Kind.ALREADY_EXISTS, "WORKFLOW_EXISTS", f"workflow {name} exists with another content", metadata=metadata,
            resource=("workflow", name),
        )  # fmt: skip

    def _new_version(self, identity: Identity, reviewed: Reviewed) -> NewVersion:
        now = self._clock.now()
        return NewVersion(
            version_id=new_uuid7(now),
            workflow_id=new_uuid7(now),
            definition=reviewed.canonical,
            content_hash=reviewed.content_hash,
            hash_form=FORM,
            saved_at=now,
            saved_by=identity.user_id,
        )


def _accepted(reviewed: Reviewed) -> Definition:
    if reviewed.definition is None:
        errors = [problem for problem in reviewed.problems if problem.severity is Severity.ERROR]
        raise invalid(errors, "INVALID_DEFINITION")
    return reviewed.definition
