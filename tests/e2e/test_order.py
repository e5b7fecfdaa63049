"""The order workflow of the examples, with the demo shop: real calls, a branch, retries, a merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from tests.support.client import Client, node_statuses, status_of
from tests.support.stack import ROOT

ORDER: dict[str, Any] = yaml.safe_load(Path(ROOT / "examples/order.yaml").read_text(encoding="utf-8"))
BIG = [{"article": "lamp", "quantity": 2}, {"article": "book", "quantity": 3}]
SMALL = [{"article": "book", "quantity": 1}]


@pytest.fixture(scope="module")
def saved() -> set[str]:
    """Names of the workflows that this module has saved."""
    return set()


async def _order(client: Client, saved: set[str], order: dict[str, Any]) -> Any:
    if "order" not in saved:
        await client.create(ORDER)
        saved.add("order")
    return await client.ended(await client.start("order", order))


async def test_an_order_is_priced_checked_and_charged(client: Client, shop: str, saved: set[str]) -> None:
    ended = await _order(client, saved, {"order_id": "big", "items": BIG, "shop": shop})
    assert status_of(ended) == "SUCCESS", ended
    output = MessageToDict(ended.output)
    assert output["total"] == 153.5
    assert output["receipt"].startswith("R-")
    runs = await client.node_runs(ended.id)
    assert runs["fraud"].attempt == 3
    assert [attempt.error.type for attempt in runs["fraud"].attempts] == ["NODE_EXECUTION"] * 2 + [""]
    statuses = await node_statuses(client, ended.id)
    assert statuses.pop("refused") == "SKIPPED"
    assert set(statuses.values()) == {"SUCCESS"}
    assert (ended.metrics.total_nodes, ended.metrics.skipped_nodes) == (len(ORDER["nodes"]), 1)


async def test_a_small_order_has_no_discount(client: Client, shop: str, saved: set[str]) -> None:
    ended = await _order(client, saved, {"order_id": "small", "items": SMALL, "shop": shop})
    assert MessageToDict(ended.output)["total"] == 18.5
    assert (await node_statuses(client, ended.id))["discount"] == "SKIPPED"


async def test_what_is_not_there_is_refused(client: Client, shop: str, saved: set[str]) -> None:
    ended = await _order(client, saved, {"order_id": "lamp-gone", "items": BIG, "shop": shop})
    assert status_of(ended) == "FAILED"
    assert ended.error.message.endswith("order lamp-gone cannot be served")
    assert (await node_statuses(client, ended.id))["charge"] in {"CANCELLED", "SKIPPED"}


async def test_a_wrong_order_is_not_tried_again(client: Client, shop: str, saved: set[str]) -> None:
    items = [{"article": "lamp", "quantity": 0}]
    ended = await _order(client, saved, {"order_id": "wrong", "items": items, "shop": shop})
    assert status_of(ended) == "FAILED"
    runs = await client.node_runs(ended.id)
    assert (runs["validate"].attempt, runs["validate"].error.type) == (1, "INVALID_ORDER")
