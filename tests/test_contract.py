"""The contract as it is built: its words are the core's words, its reasons are explained, its examples parse."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from services.core import states
from services.core.definition import model

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "weconnect/executions/v1"
DOMAIN = "executions.weconnect"


@pytest.fixture(scope="module")
def files() -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """The built descriptor set, by file."""
    built = (resources.files("weconnect") / "descriptors.binpb").read_bytes()
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(built).file}


def enum_words(files: dict[str, descriptor_pb2.FileDescriptorProto], name: str) -> dict[str, int]:
    """Values of an enum without prefix, `UNSPECIFIED` left out."""
    for file in files.values():
        for enum in file.enum_type:
            if enum.name == name and file.package == "weconnect.executions.v1":
                prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() + "_"
                return {v.name.removeprefix(prefix): v.number for v in enum.value if v.number}
    raise AssertionError(f"no enum {name}")


def reasons(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> Iterator[tuple[str, str]]:
    """Each error reason without prefix, with its comment."""
    file = files[f"{PACKAGE}/error_reason.proto"]
    comments = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
    for index, value in enumerate(file.enum_type[0].value):
        if value.number:
            yield value.name.removeprefix("ERROR_REASON_"), comments[5, 0, 2, index]


@pytest.mark.parametrize(
    "enum", [model.Strategy, model.Join, model.Backoff, model.OnError, model.Priority, model.Rollback]
)
def test_words_of_definitions_are_the_cores(
    files: dict[str, descriptor_pb2.FileDescriptorProto], enum: type[Enum]
) -> None:
    """An enum of the contract has exactly the core's values."""
    assert set(enum_words(files, enum.__name__)) == {member.name for member in enum}


@pytest.mark.parametrize("enum", [states.ExecutionStatus, states.NodeStatus])
def test_statuses_are_the_cores(
    files: dict[str, descriptor_pb2.FileDescriptorProto],
    enum: type[states.ExecutionStatus | states.NodeStatus],
) -> None:
    """Statuses agree in name and number, so that they cross the edge without a table."""
    assert enum_words(files, enum.__name__) == {member.name: member.value for member in enum}


@pytest.mark.parametrize(
    ("message", "record"),
    [
        *(
            (name, getattr(model, name))
            for name in ("Node", "Edge", "RetryPolicy", "Timeouts", "CircuitBreaker")
        ),
        *(
            (name, getattr(model, name))
            for name in ("InlineNode", "ForEach", "ToleratedFailures", "Repeat", "Cache")
        ),
        *(
            (name, getattr(model, name))
            for name in ("Resources", "Concurrency", "RateLimit", "OnFailure", "Notify")
        ),
        ("WorkflowDefinition", model.Definition),
    ],
)
def test_definitions_have_the_cores_fields(
    files: dict[str, descriptor_pb2.FileDescriptorProto], message: str, record: Any
) -> None:
    """Every field of a definition is in the contract, and nothing else; durations lose their unit there."""
    file = files[f"{PACKAGE}/definition.proto"]
    fields = {f.name for m in file.message_type if m.name == message for f in m.field}
    plain = {field.name.removesuffix("_us") for field in dataclasses.fields(record)}
    assert {name for name in fields if not name.endswith("_json")} == plain


def test_every_reason_has_an_example(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """The comment of a reason shows an ErrorInfo of that reason."""
    for reason, comment in reasons(files):
        shown = re.search(r"`(\{.*\})`", comment, re.DOTALL)
        assert shown, f"{reason} has no example"
        example = json.loads(shown[1])
        assert (example["reason"], example["domain"]) == (reason, DOMAIN)
        assert all(isinstance(value, str) for value in example["metadata"].values())


def test_every_reason_given_is_in_the_contract(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """No refusal has a reason that clients cannot look up."""
    known = {reason for reason, _ in reasons(files)}
    given = {
        (path.relative_to(ROOT).as_posix(), argument.value)
        for path in (ROOT / "services").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in {"Refusal", "invalid"}
        for argument in call.args[1:2]
        if isinstance(argument, ast.Constant)
    }
    assert {(path, reason) for path, reason in given if reason not in known} == set()
