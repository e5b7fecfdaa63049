"""Workflows and their immutable versions, always of one organization.

Saving the same content again makes no version; two savers of one workflow take turns on its row.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.adapters.postgres.binary import Bigint, Smallint, Timestamp, Uuid
from services.adapters.postgres.connection import Connection, fetch
from services.adapters.postgres.pool import Pool
from services.core.records import VersionRow, WorkflowRow

_WORKFLOW = "id, organization_id, name, latest_version, created_at, updated_at, created_by"
_VERSION = (
    "id, workflow_id, organization_id, version, definition, content_hash, hash_form, created_at, created_by"
)
_INSERT_WORKFLOW = (
    f"insert into workflows ({_WORKFLOW}) values (%s, %s, %s, 0, %s, %s, %s)"
    " on conflict (organization_id, name) do nothing"
)
_LOCK = f"select {_WORKFLOW} from workflows where organization_id = %s and name = %s for update"
_LOCK_BY_ID = f"select {_WORKFLOW} from workflows where organization_id = %s and id = %s for update"
_SAME = f"select {_VERSION} from workflow_versions where workflow_id = %s and content_hash = %s and hash_form = %s"
_INSERT_VERSION = f"insert into workflow_versions ({_VERSION}) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
_ADVANCE = f"update workflows set latest_version = %s, updated_at = %s where id = %s returning {_WORKFLOW}"
_BY_ID = f"select {_WORKFLOW} from workflows where organization_id = %s and id = %s"
_BY_NAME = f"select {_WORKFLOW} from workflows where organization_id = %s and name = %s"
_VERSION_BY_NUMBER = f"select {_VERSION} from workflow_versions where organization_id = %s and workflow_id = %s and version = %s"


@dataclass(frozen=True, slots=True)
class NewVersion:
    """Content to save: canonical JSON, its hash and the form of the hash; `saved_at` in microseconds.

    `version_id` and `workflow_id` are fresh ids that are used if a row is made.
    """

    version_id: bytes
    workflow_id: bytes
    definition: bytes
    content_hash: bytes
    hash_form: int
    saved_at: int
    saved_by: str


@dataclass(frozen=True, slots=True)
class Saved:
    """The workflow and version that hold the content; `made`: the version is new."""

    workflow: WorkflowRow
    version: VersionRow
    made: bool


class WorkflowStore:
    """Saves and reads workflows."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, organization_id: str, name: str, new: NewVersion) -> Saved | None:
        """A workflow with its first version. None when the name is taken by other content than its only version.

        Repeating it with the same content returns what is there.
        """

        async def work(connection: Connection) -> Saved | None:
            at = Timestamp(new.saved_at)
            parameters = (Uuid(new.workflow_id), organization_id, name, at, at, new.saved_by)
            await fetch(connection, _INSERT_WORKFLOW, parameters)
            (row,) = await fetch(connection, _LOCK, (organization_id, name))
            workflow = WorkflowRow(*row)
            if workflow.latest_version == 0:
                return await _save(connection, workflow, new)
            same = await _same(connection, workflow, new)
            if same is None or same.version != workflow.latest_version or same.version != 1:
                return None
            return Saved(workflow, same, made=False)

        return await self._pool.transact(work)

    async def update(
        self, organization_id: str, workflow_id: bytes, new: NewVersion, *, expected_version: int = 0
    ) -> Saved | None:
        """The next version of a workflow; None when there is no such workflow.

        Content that a version holds already makes none: that version is returned, `made` false. When another
        than `expected_version` (0: any) is the latest, new content is not saved: the latest version is returned.
        """

        async def work(connection: Connection) -> Saved | None:
            rows = await fetch(connection, _LOCK_BY_ID, (organization_id, Uuid(workflow_id)))
            if not rows:
                return None
            workflow = WorkflowRow(*rows[0])
            same = await _same(connection, workflow, new)
            if same is not None:
                return Saved(workflow, same, made=False)
            if expected_version and expected_version != workflow.latest_version:
                parameters = (organization_id, Uuid(workflow_id), Bigint(workflow.latest_version))
                (row,) = await fetch(connection, _VERSION_BY_NUMBER, parameters)
                return Saved(workflow, VersionRow(*row), made=False)
            return await _save(connection, workflow, new)

        return await self._pool.transact(work)

    async def by_id(self, organization_id: str, workflow_id: bytes) -> WorkflowRow | None:
        """A workflow by id."""
        rows = await self._pool.fetch(_BY_ID, (organization_id, Uuid(workflow_id)))
        return WorkflowRow(*rows[0]) if rows else None

    async def by_name(self, organization_id: str, name: str) -> WorkflowRow | None:
        """A workflow by name."""
        rows = await self._pool.fetch(_BY_NAME, (organization_id, name))
        return WorkflowRow(*rows[0]) if rows else None

    async def version(self, organization_id: str, workflow_id: bytes, version: int) -> VersionRow | None:
        """A version by its number."""
        parameters = (organization_id, Uuid(workflow_id), Bigint(version))
        rows = await self._pool.fetch(_VERSION_BY_NUMBER, parameters)
        return VersionRow(*rows[0]) if rows else None


async def _same(connection: Connection, workflow: WorkflowRow, new: NewVersion) -> VersionRow | None:
    parameters = (Uuid(workflow.workflow_id), new.content_hash, Smallint(new.hash_form))
    rows = await fetch(connection, _SAME, parameters)
    return VersionRow(*rows[0]) if rows else None


async def _save(connection: Connection, workflow: WorkflowRow, new: NewVersion) -> Saved:
    version = VersionRow(
        new.version_id,
        workflow.workflow_id,
        workflow.organization_id,
        workflow.latest_version + 1,
        new.definition,
        new.content_hash,
        new.hash_form,
        new.saved_at,
        new.saved_by,
    )
    at = Timestamp(new.saved_at)
    await fetch(
        connection,
        _INSERT_VERSION,
        (
            Uuid(version.version_id),
            Uuid(version.workflow_id),
            version.organization_id,
            version.version,
            version.definition,
            version.content_hash,
            Smallint(version.hash_form),
            at,
            version.created_by,
        ),
    )
    (row,) = await fetch(connection, _ADVANCE, (version.version, at, Uuid(workflow.workflow_id)))
    return Saved(WorkflowRow(*row), version, made=True)
