"""Handlers of the order workflow. A runner loads them with WECONNECT_APPS=examples.shop:app."""

from __future__ import annotations

import hashlib
from typing import Any

from weconnect import App, Context, NonRetryable

app = App("shop")


@app.node("shop.validate")
def validate(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Check that every line of an order names an article and a quantity."""
    problems = [
        f"line {number}: {problem}"
        for number, item in enumerate(input["items"], start=1)
        if (problem := _problem(item)) is not None
    ]
    if problems:
        # The same order will not get better: no retry policy may try this again.
        raise NonRetryable("INVALID_ORDER", "; ".join(problems))
    pieces = sum(item["quantity"] for item in input["items"])
    ctx.log.info("order is valid", lines=len(input["items"]), pieces=pieces)
    return {"lines": len(input["items"]), "pieces": pieces}


@app.node("shop.charge")
async def charge(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Charge the total less the discount.

    The receipt comes from the idempotency key, as a payment provider's would: a second attempt of this node is the
    same charge.
    """
    amount = round(input["total"] * (1.0 - input["discount"]), 2)
    receipt = "R-" + hashlib.sha256(ctx.idempotency_key.encode()).hexdigest()[:10].upper()
    ctx.log.info("charged", amount=amount, receipt=receipt, attempt=ctx.attempt)
    return {"receipt": receipt, "amount": amount}


def _problem(item: Any) -> str | None:
    if not isinstance(item, dict) or not item.get("article"):
        return "names no article"
    quantity = item.get("quantity")
    if not isinstance(quantity, int) or quantity < 1:
        return "needs a quantity of at least 1"
    return None
