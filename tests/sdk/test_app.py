"""Handlers are registered as written, and mistakes are told when the module is imported."""

from __future__ import annotations

from datetime import timedelta

import pytest

from weconnect import App, Cancelled, Context, NodeFailure, NonRetryable


def test_handlers_keep_their_shape() -> None:
    app = App("shop")

    @app.node("shop.charge")
    async def charge(input: dict[str, int], ctx: Context) -> int:
        """Charge the card.

        More text.
        """
        return input["total"]

    @app.node("shop.count", description="counts")
    def count(input: list[int]) -> int:
        return len(input)

    nodes = app.nodes
    assert nodes["shop.charge"].is_async and nodes["shop.charge"].takes_context
    assert nodes["shop.charge"].description == "Charge the card."
    assert not nodes["shop.count"].is_async and not nodes["shop.count"].takes_context
    assert nodes["shop.count"].description == "counts"
    assert count([1, 2]) == 2


def test_an_object_with_an_async_call_is_async() -> None:
    class Charge:
        async def __call__(self, input: object, ctx: Context) -> None:
            return None

    app = App("shop")
    app.node("shop.charge")(Charge())
    assert app.nodes["shop.charge"].is_async


@pytest.mark.parametrize("name", ["", "1st", "a b", "a/b", "x" * 129])
def test_bad_type_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no node type"):
        App("a").node(name)


def test_a_type_is_registered_once() -> None:
    app = App("a")
    app.node("x")(lambda input: None)
    with pytest.raises(ValueError, match="already"):
        app.node("x")


def test_a_handler_must_take_an_input() -> None:
    with pytest.raises(TypeError, match="must take"):
        App("a").node("x")(lambda: None)


def test_failures_say_how_to_go_on() -> None:
    failure = NodeFailure("BUSY", "try later", retry_after=timedelta(seconds=3), details={"a": 1})
    assert (failure.type, failure.message, failure.retryable, failure.retry_after_s) == (
        "BUSY",
        "try later",
        True,
        3,
    )
    declined = NonRetryable("CARD_DECLINED", "no funds")
    assert (declined.type, declined.retryable, str(declined)) == ("CARD_DECLINED", False, "no funds")
    plain = NonRetryable("no funds")
    assert (plain.type, plain.message) == ("NODE_EXECUTION", "no funds")
    with pytest.raises(ValueError, match="retry_after"):
        NodeFailure("X", retry_after=-1)


def test_a_context_of_its_own_collects() -> None:
    ctx = Context(node_id="charge")
    ctx.log.info("hello", a=1)
    ctx.log("again")
    ctx.heartbeat({"at": 3})
    assert [line[1] for line in ctx.log.lines] == ["hello", "again"]  # type: ignore[attr-defined]
    assert ctx.last_heartbeat == {"at": 3}
    assert not ctx.wait_cancelled(0)
    ctx.cancel()
    assert ctx.cancelled and ctx.wait_cancelled()
    with pytest.raises(Cancelled):
        ctx.raise_if_cancelled()


def test_waiting_begins_after_the_cancel() -> None:
    ctx = Context()
    ctx.cancel()
    assert ctx.wait_cancelled(0)
