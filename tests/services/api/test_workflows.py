"""Workflows over the wire: saved once per content, versioned, read, listed, checked; and the status of api."""

from __future__ import annotations

from typing import Any

import orjson

from tests.services.api.conftest import Stack, refusal
from weconnect.executions.v1 import api_service_pb2 as status
from weconnect.executions.v1 import enums_pb2 as enums
from weconnect.executions.v1 import workflow_service_pb2 as pb


def _definition(name: str, nodes: int = 1, **fields: Any) -> bytes:
    return orjson.dumps(
        {"name": name, "nodes": [{"id": f"n{n}", "type": "noop"} for n in range(nodes)], **fields}
    )


async def _create(stack: Stack, name: str, nodes: int = 1, **fields: Any) -> Any:
    request = pb.CreateWorkflowRequest(definition_json=_definition(name, nodes, **fields))
    return (await stack.acme.call("CreateWorkflow", request)).workflow


async def _update(stack: Stack, name: str, nodes: int, **fields: Any) -> Any:
    request = pb.UpdateWorkflowRequest(definition_json=_definition(name, nodes), **fields)
    return (await stack.acme.call("UpdateWorkflow", request)).workflow


async def test_saving_makes_a_version_per_content(stack: Stack) -> None:
    first = await _create(stack, "w1")
    assert (first.version, first.latest_version, len(first.content_hash)) == (1, 1, 64)
    assert (await _create(stack, "w1")).id == first.id
    code, info, _ = await refusal(_create(stack, "w1", 2))
    assert (code, info.reason, info.metadata["workflowId"]) == ("ALREADY_EXISTS", "WORKFLOW_EXISTS", first.id)
    second = await _update(stack, "w1", 2, workflow_id=first.id, expected_version=1)
    assert (second.version, second.id) == (2, first.id)
    assert (await _update(stack, "w1", 2)).version == 2, "the same content makes no version"
    assert (await _create(stack, "w1")).version == 1, "a repeated creation returns what it made"
    code, info, _ = await refusal(_update(stack, "w1", 3, expected_version=1))
    assert (code, info.reason) == ("ABORTED", "VERSION_CONFLICT")
    assert info.metadata["latestVersion"] == "2"
    assert (await _update(stack, "w1", 3, expected_version=2)).version == 3
    code, info, _ = await refusal(_update(stack, "nothing", 1))
    assert (code, info.reason) == ("NOT_FOUND", "WORKFLOW_NOT_FOUND")
    code, _, details = await refusal(_update(stack, "renamed", 1, workflow_name="w1"))
    assert details["BadRequest"].field_violations[0].field == "definition.name"


async def test_reading_a_version(stack: Stack) -> None:
    created = await _create(stack, "w2", description="two", labels={"team": "a"})
    await _update(stack, "w2", 2)
    for fields, version in [({}, 2), ({"version": 1}, 1), ({"alias": "latest"}, 2)]:
        request = pb.GetWorkflowRequest(workflow_name="w2", **fields)  # type: ignore[arg-type]
        workflow = (await stack.acme.call("GetWorkflow", request)).workflow
        assert (workflow.version, workflow.latest_version, workflow.id) == (version, 2, created.id)
        assert len(workflow.definition.nodes) == version
    request = pb.GetWorkflowRequest(workflow_id=created.id, version=1, view=enums.VIEW_BASIC)
    workflow = (await stack.acme.call("GetWorkflow", request)).workflow
    assert (workflow.description, dict(workflow.labels)) == ("two", {"team": "a"})
    assert not workflow.HasField("definition")
    request = pb.GetWorkflowRequest(workflow_id=created.id, version=1, exact_json=True)
    exact = (await stack.acme.call("GetWorkflow", request)).workflow
    assert orjson.loads(exact.definition_json)["name"] == "w2"
    for request, reason in [
        (pb.GetWorkflowRequest(workflow_name="w2", version=7), "VERSION_NOT_FOUND"),
        (pb.GetWorkflowRequest(workflow_name="w2", alias="x"), "ALIAS_NOT_FOUND"),
        (pb.GetWorkflowRequest(workflow_name="w2x"), "WORKFLOW_NOT_FOUND"),
    ]:
        code, info, _ = await refusal(stack.acme.call("GetWorkflow", request))
        assert (code, info.reason) == ("NOT_FOUND", reason)
    code, _, _ = await refusal(stack.other.call("GetWorkflow", pb.GetWorkflowRequest(workflow_id=created.id)))
    assert code == "NOT_FOUND"


async def test_lists_page_and_filter(stack: Stack) -> None:
    for n in range(5):
        await _create(stack, f"list{n}", n + 1, labels={"n": str(n % 2)})

    async def names(**fields: Any) -> list[str]:
        request = pb.ListWorkflowsRequest(name_prefix="list", page_size=2, **fields)
        found: list[str] = []
        while True:
            page = await stack.acme.call("ListWorkflows", request)
            found.extend(workflow.name for workflow in page.workflows)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    assert await names() == ["list4", "list3", "list2", "list1", "list0"]
    assert await names(order_by="name asc") == ["list0", "list1", "list2", "list3", "list4"]
    assert await names(order_by="name desc", labels={"n": "1"}) == ["list3", "list1"]
    request = pb.ListWorkflowsRequest(name_prefix="list3", view=enums.VIEW_FULL)
    (full,) = (await stack.acme.call("ListWorkflows", request)).workflows
    assert len(full.definition.nodes) == 4
    assert not (
        await stack.other.call("ListWorkflows", pb.ListWorkflowsRequest(name_prefix="list"))
    ).workflows


async def test_everything_wrong_with_a_definition_is_said_at_once(stack: Stack) -> None:
    bad = orjson.dumps(
        {
            "name": "bad",
            "input_schema": {"type": "nonsense"},
            "nodes": [
                {"id": "a", "type": "condition", "parameters": {"condition": "1 +"}},
                {"id": "b", "type": "noop", "when": "nodes.nobody.output == 1"},
                {"id": "b", "type": "noop"},
            ],
            "edges": [{"source": "a", "target": "nowhere"}],
        }
    )
    answer = await stack.acme.call("ValidateWorkflow", pb.ValidateWorkflowRequest(definition_json=bad))
    assert not answer.valid
    fields = " ".join(problem.field for problem in answer.problems)
    for path in (
        "nodes[0].parameters.condition",
        "nodes[1].when",
        "nodes[2].id",
        "edges[0].target",
        "input_schema",
    ):
        assert path in fields
    code, info, details = await refusal(
        stack.acme.call("CreateWorkflow", pb.CreateWorkflowRequest(definition_json=bad))
    )
    assert (code, info.reason) == ("INVALID_ARGUMENT", "INVALID_DEFINITION")
    assert len(details["BadRequest"].field_violations) == int(info.metadata["problems"])
    code, _, _ = await refusal(
        stack.acme.call("CreateWorkflow", pb.CreateWorkflowRequest(definition_json=b"{"))
    )
    assert code == "INVALID_ARGUMENT"
    answer = await stack.acme.call("ValidateWorkflow", pb.ValidateWorkflowRequest(definition_json=b"{"))
    assert not answer.valid


async def test_an_unannounced_type_is_a_warning(stack: Stack) -> None:
    definition = orjson.dumps({"name": "w", "nodes": [{"id": "a", "type": "shop.charge"}]})
    answer = await stack.acme.call("ValidateWorkflow", pb.ValidateWorkflowRequest(definition_json=definition))
    assert answer.valid
    assert [problem.severity for problem in answer.problems] == [pb.PROBLEM_SEVERITY_WARNING]


async def test_a_definition_as_a_message(stack: Stack) -> None:
    request = pb.CreateWorkflowRequest()
    request.definition.name = "message"
    node = request.definition.nodes.add(id="a", type="log")
    node.parameters.update({"message": "hello ${ input.who }"})
    request.definition.output.update({"who": "${ input.who }"})
    workflow = (await stack.acme.call("CreateWorkflow", request)).workflow
    assert workflow.definition.nodes[0].parameters["message"] == "hello ${ input.who }"


async def test_status_of_the_process(stack: Stack) -> None:
    answer = await stack.acme.call("GetApiStatus", status.GetApiStatusRequest())
    assert answer.instance_id.startswith("api-")
    assert answer.database_connected
    assert answer.nats_connected
    assert answer.requests_in_flight == 1
    assert not answer.draining
