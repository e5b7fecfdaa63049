"""Workflows as lists show them: each at its latest version, of which only description and labels are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.adapters.postgres.binary import Bigint, Jsonb, Timestamp, Uuid
from services.adapters.postgres.pool import Pool
from services.core.records import VersionRow, WorkflowRow

_SUMMARY = (
    "convert_to(jsonb_strip_nulls(jsonb_build_object('description', d.j -> 'description',"
    " 'labels', d.j -> 'labels'))::text, 'UTF8')"
)
_SELECT = (
    "select w.id, w.organization_id, w.name, w.latest_version, w.created_at, w.updated_at, w.created_by,"
    f" v.id, v.workflow_id, v.organization_id, v.version, {_SUMMARY}, v.content_hash, v.hash_form,"
    " v.created_at, v.created_by from workflows w"
    " join workflow_versions v on v.workflow_id = w.id and v.version = w.latest_version"
    " cross join lateral (select convert_from(v.definition, 'UTF8')::jsonb as j) d"
    " where w.organization_id = %(organization_id)s"
    " and (%(prefix)s::text = '' or starts_with(w.name, %(prefix)s::text))"
    " and (%(created_after)s::timestamptz is null or w.created_at >= %(created_after)s::timestamptz)"
    " and (%(created_before)s::timestamptz is null or w.created_at < %(created_before)s::timestamptz)"
    " and (not %(labelled)s::boolean or d.j -> 'labels' @> %(labels)s::jsonb)"
)
_BY_NAME = " and (%(after_name)s::text is null or w.name {0} %(after_name)s::text) order by w.name {1} limit %(limit)s"
_BY_CREATION = (
    " and (%(after_at)s::timestamptz is null or (w.created_at, w.id) {0} (%(after_at)s::timestamptz,"
    " %(after_id)s::uuid)) order by w.created_at {1}, w.id {1} limit %(limit)s"
)
_STATEMENTS = {
    ("name", False): _SELECT + _BY_NAME.format(">", "asc"),
    ("name", True): _SELECT + _BY_NAME.format("<", "desc"),
    ("created_at", False): _SELECT + _BY_CREATION.format(">", "asc"),
    ("created_at", True): _SELECT + _BY_CREATION.format("<", "desc"),
}
_WORKFLOW_WIDTH = 7


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """Which workflows a list shows; empty means all. `created_after` is inclusive, `created_before` exclusive."""

    name_prefix: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: int | None = None
    created_before: int | None = None


class WorkflowLists:
    """Lists the workflows of an organization."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(
        self,
        organization_id: str,
        wanted: WorkflowFilter,
        *,
        order: str,
        descending: bool,
        after: WorkflowRow | None,
        limit: int,
    ) -> Sequence[tuple[WorkflowRow, VersionRow]]:
        """Workflows by `name` or `created_at`, after a place of which only the key and the id count.

        The versions' `definition` holds description and labels alone.
        """
        parameters: dict[str, Any] = {
            "organization_id": organization_id,
            "prefix": wanted.name_prefix,
            "created_after": None if wanted.created_after is None else Timestamp(wanted.created_after),
            "created_before": None if wanted.created_before is None else Timestamp(wanted.created_before),
            "labelled": bool(wanted.labels),
            "labels": Jsonb(dict(wanted.labels)),
            "limit": Bigint(limit),
        }
        if order == "name":
            parameters["after_name"] = None if after is None else after.name
        else:
            parameters["after_at"] = None if after is None else Timestamp(after.created_at)
            parameters["after_id"] = None if after is None else Uuid(after.workflow_id)
        rows = await self._pool.fetch(_STATEMENTS[order, descending], parameters)
        return [(WorkflowRow(*row[:_WORKFLOW_WIDTH]), VersionRow(*row[_WORKFLOW_WIDTH:])) for row in rows]
