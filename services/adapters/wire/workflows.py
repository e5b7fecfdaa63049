"""Workflows and problems of definitions as the public contract shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from services.adapters.wire.definitions import definition_to_proto
from services.adapters.wire.scalars import set_instant
from services.core.definition.parse import parse_definition
from services.core.errors import Problem, Severity
from services.core.ids import uuid_text
from services.core.records import VersionRow, WorkflowRow
from weconnect.executions.v1 import workflow_service_pb2 as pb


def workflow_message(
    workflow: WorkflowRow, version: VersionRow, *, full: bool, exact: bool = False
) -> pb.Workflow:
    """A workflow at one of its versions. Without `full` the definition may hold description and labels alone."""
    plain: Mapping[str, object] = orjson.loads(version.definition)
    message = pb.Workflow(
        id=uuid_text(workflow.workflow_id),
        organization_id=workflow.organization_id,
        name=workflow.name,
        description=str(plain.get("description", "")),
        version=version.version,
        latest_version=workflow.latest_version,
        content_hash=version.content_hash.hex(),
        content_hash_form=version.hash_form,
        user_id=version.created_by,
    )
    labels = plain.get("labels")
    if isinstance(labels, dict):
        message.labels.update(labels)
    set_instant(message.created_at, workflow.created_at)
    set_instant(message.version_created_at, version.created_at)
    if full and exact:
        message.definition_json = version.definition
    elif full:
        definition, problems = parse_definition(plain)
        if definition is None:
            raise ValueError(f"stored version {version.version_id.hex()} cannot be parsed: {problems[:3]}")
        message.definition.CopyFrom(definition_to_proto(definition))
    return message


def problem_messages(problems: Iterable[Problem]) -> list[pb.DefinitionProblem]:
    """Problems, errors first, each group in the order given."""
    ordered = sorted(problems, key=lambda problem: problem.severity is not Severity.ERROR)
    return [
        pb.DefinitionProblem(
            field=problem.path,
            reason=problem.reason,
            message=problem.message,
            severity=pb.PROBLEM_SEVERITY_ERROR
            if problem.severity is Severity.ERROR
            else pb.PROBLEM_SEVERITY_WARNING,
        )
        for problem in ordered
    ]
