"""A small shop for the order workflow: `python -m examples.demo_shop 127.0.0.1:8099`.

POST /price   {"items": [{"article", "quantity"}], "currency"} → {"total", "currency", "lines"}
GET  /stock/ORDER → {"order", "available"}; orders whose id ends in "-gone" are not available
POST /fraud   {"order"} → 503 twice for each order, then {"order", "score"}
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

from aiohttp import web

PRICES = {"book": 18.5, "lamp": 49.0, "chair": 120.0}
PRICE_OF_OTHERS = 9.9
REFUSALS = 2
# How long the shop thinks, so that three calls at once can be seen to take as long as the slowest.
THINKING_SECONDS = {"price": 0.25, "stock": 0.15, "fraud": 0.1}

_asked: web.AppKey[Counter[str]] = web.AppKey("asked", Counter)


async def price(request: web.Request) -> web.Response:
    """Prices of the lines of an order, and their sum."""
    order = await request.json()
    await asyncio.sleep(THINKING_SECONDS["price"])
    lines = [_line(item) for item in order["items"]]
    total = round(sum(line["price"] for line in lines), 2)
    return web.json_response({"total": total, "currency": order.get("currency", "EUR"), "lines": lines})


async def stock(request: web.Request) -> web.Response:
    """Whether everything of an order is there."""
    order = request.match_info["order"]
    await asyncio.sleep(THINKING_SECONDS["stock"])
    return web.json_response({"order": order, "available": not order.endswith("-gone")})


async def fraud(request: web.Request) -> web.Response:
    """Score of an order, from a service that is down at first."""
    order = (await request.json())["order"]
    await asyncio.sleep(THINKING_SECONDS["fraud"])
    asked = request.app[_asked]
    asked[order] += 1
    if asked[order] <= REFUSALS:
        return web.json_response({"error": "overloaded, come back"}, status=503)
    return web.json_response({"order": order, "score": 0.02})


async def health(_: web.Request) -> web.Response:
    """It answers."""
    return web.json_response({"status": "ok"})


def make_app() -> web.Application:
    """The shop."""
    app = web.Application()
    app[_asked] = Counter()
    app.add_routes(
        [
            web.post("/price", price),
            web.get("/stock/{order}", stock),
            web.post("/fraud", fraud),
            web.get("/readyz", health),
        ]
    )
    return app


def main() -> None:
    """Serve where the first argument says."""
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8099").rpartition(":")
    web.run_app(make_app(), host=host, port=int(port), print=None)


def _line(item: dict[str, Any]) -> dict[str, Any]:
    price = PRICES.get(item["article"], PRICE_OF_OTHERS) * item["quantity"]
    return {"article": item["article"], "quantity": item["quantity"], "price": round(price, 2)}


if __name__ == "__main__":
    main()
