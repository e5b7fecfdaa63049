"""Parts of api without a process: shared queries, page tokens, schemas, the hash of a request."""

from __future__ import annotations

import asyncio

import pytest

from services.adapters.json_schema import InputSchema, JsonSchemas
from services.api.batching import Batcher
from services.api.paging import decode_token, encode_token, filter_digest
from services.api.starting import Wanted
from services.api.versions import WorkflowChoice
from services.core.refusals import Refusal


async def test_who_asks_while_a_query_is_in_flight_shares_the_next() -> None:
    asked: list[list[int]] = []
    go = asyncio.Event()

    async def ask(keys: list[int]) -> dict[int, int]:
        asked.append(keys)
        await go.wait()
        return {key: key * 10 for key in keys if key != 3}

    batcher = Batcher[int, int](ask)
    first = asyncio.ensure_future(batcher.get(1))
    while not asked:
        await asyncio.wait([first], timeout=0.001)
    rest = [asyncio.ensure_future(batcher.get(key)) for key in (2, 3, 2)]
    await asyncio.wait(rest, timeout=0.001)
    go.set()
    assert await asyncio.gather(first, *rest) == [10, 20, None, 20]
    assert asked == [[1], [2, 3]]


async def test_a_failed_query_fails_only_its_askers() -> None:
    async def ask(keys: list[int]) -> dict[int, int]:
        if 1 in keys:
            raise ConnectionError
        return dict.fromkeys(keys, 0)

    batcher = Batcher[int, int](ask)
    with pytest.raises(ConnectionError):
        await batcher.get(1)
    assert await batcher.get(2) == 0


async def test_who_leaves_takes_no_answer_from_others() -> None:
    go = asyncio.Event()

    async def ask(keys: list[int]) -> dict[int, int]:
        await go.wait()
        return dict.fromkeys(keys, 7)

    batcher = Batcher[int, int](ask)
    leaving, staying = asyncio.ensure_future(batcher.get(1)), asyncio.ensure_future(batcher.get(1))
    await asyncio.wait([leaving, staying], timeout=0.01)
    leaving.cancel()
    go.set()
    assert await staying == 7


def test_tokens_are_bound_and_typed() -> None:
    digest = filter_digest("list", "acme", {"a": 1}, frozenset({"x", "y"}), b"\x00")
    assert digest == filter_digest("list", "acme", {"a": 1}, frozenset({"y", "x"}), b"\x00")
    token = encode_token(digest, (3, "id"))
    assert decode_token(token, digest, (int, str)) == [3, "id"]
    assert decode_token("", digest, (int, str)) is None
    for bad, bound_to, kinds in [
        (token, filter_digest("list", "other"), (int, str)),
        (token, digest, (str, str)),
        (token, digest, (int,)),
        ("%%%", digest, (int, str)),
        ("eyJhIjoxfQ", digest, (int, str)),
    ]:
        with pytest.raises(Refusal) as refused:
            decode_token(bad, bound_to, kinds)
        assert refused.value.reason == "INVALID_PAGE_TOKEN"


def test_schemas_say_where_and_never_fetch() -> None:
    schema = InputSchema({"properties": {"a": {"items": {"type": "integer"}}}, "required": ["b"]})
    problems = schema.problems({"a": [1, "x"]}, "input")
    assert {problem.path for problem in problems} == {"input.a[1]", "input"}
    assert schema.problems({"a": [1], "b": 0}, "input") == []
    judge = JsonSchemas()
    assert judge.problems({"type": "nonsense"})
    assert judge.problems({"$ref": "http://169.254.169.254/schema"})
    assert judge.problems({"type": "object"}) == []


def test_the_hash_is_of_what_was_sent() -> None:
    by_name = WorkflowChoice(None, "w")
    base = Wanted(by_name, b'{"a":1,"b":2}', {"a": 1, "b": 2}, key="k")
    same = Wanted(by_name, b'{ "b": 2, "a": 1 }', {"b": 2, "a": 1}, key="other", policy="reject")
    assert base.body_hash() == same.body_hash()
    for other in (
        Wanted(by_name, b"{}", {}),
        Wanted(WorkflowChoice(None, "w", version=1), b"", {"a": 1, "b": 2}),
        Wanted(WorkflowChoice(None, "w", alias="latest"), b"", {"a": 1, "b": 2}),
        Wanted(by_name, b"", {"a": 1, "b": 2}, mode="api"),
        Wanted(by_name, b"", {"a": 1, "b": 2}, labels={"x": "y"}),
        Wanted(by_name, b"", {"a": 1, "b": 2}, timeout_us=1_000_000),
    ):
        assert other.body_hash() != base.body_hash()
