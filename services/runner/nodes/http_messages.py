"""Requests and answers of `http.request` as plain values: parsing, redirects, bodies, `Retry-After`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
from multidict import CIMultiDict
from yarl import URL

from services.core.units import SECOND

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FIELDS = frozenset({"method", "url", "headers", "query", "json", "body"})
# Headers that another origin must not see.
_PRIVATE = ("Authorization", "Cookie", "Proxy-Authorization")
_ABOUT_BODY = ("Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding")
_TEXT_TYPES = ("text/", "application/xml", "application/javascript", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    url: URL
    headers: CIMultiDict[str]
    data: bytes | None


def parse_call(input: Any) -> Call:
    """Request of a node's parameters. Raises ValueError naming the field."""
    if not isinstance(input, dict):
        raise ValueError("parameters must be {method, url, headers, query, json or body}")
    unknown = sorted(set(input) - _FIELDS)
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r}; there are {', '.join(sorted(_FIELDS))}")
    method = str(input.get("method") or "GET").upper()
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(METHODS))}")
    url = _url(input.get("url"), input.get("query"))
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in _pairs("headers", input.get("headers")):
        headers.add(name, value)
    data: bytes | None = None
    if input.get("json") is not None:
        if input.get("body") is not None:
            raise ValueError("give json or body, not both")
        data = orjson.dumps(input["json"])
        headers.setdefault("Content-Type", "application/json")
    elif input.get("body") is not None:
        if not isinstance(input["body"], str):
            raise ValueError("body must be text; use json for a value")
        data = input["body"].encode()
        headers.setdefault("Content-Type", "text/plain; charset=utf-8")
    return Call(method, url, headers, data)


def _url(text: Any, query: Any) -> URL:
    if not isinstance(text, str) or not text:
        raise ValueError("url must be a text")
    url = URL(text)
    pairs = _pairs("query", query)
    return url.extend_query(pairs) if pairs else url


def _pairs(field: str, value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise ValueError(f"{field} must be an object")
    pairs: list[tuple[str, str]] = []
    for name, one in value.items():
        pairs.extend((name, _scalar(field, name, item)) for item in (one if isinstance(one, list) else [one]))
    return pairs


def _scalar(field: str, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"{field}.{name} must be a text, a number or a boolean, or a list of them")


def redirected(call: Call, status: int, location: str) -> Call:
    """Next request after a redirect (RFC 9110, 15.4): 303, and 301 or 302 of a POST, become a GET without body."""
    url = call.url.join(URL(location))
    headers = CIMultiDict(call.headers)
    if url.origin() != call.url.origin():
        for name in _PRIVATE:
            headers.popall(name, None)
        url = url if URL(location).user else url.with_user(None)
    if (status == 303 and call.method != "HEAD") or (status in (301, 302) and call.method == "POST"):
        for name in _ABOUT_BODY:
            headers.popall(name, None)
        return Call("GET", url, headers, None)
    return replace(call, url=url, headers=headers)


def plain_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with lower-case names; several of one name are joined by commas."""
    plain: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        plain[key] = f"{plain[key]}, {value}" if key in plain else value
    return plain


def plain_body(data: bytes, content_type: str, charset: str | None) -> Any:
    """Body as JSON: parsed when it says so, text when it is text, else `{"base64": …}`; null when empty."""
    if not data:
        return None
    kind = content_type.lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            return data.decode("utf-8", "replace")
    try:
        return data.decode(charset or "utf-8")
    except (UnicodeDecodeError, LookupError):
        if kind.startswith(_TEXT_TYPES):
            return data.decode("utf-8", "replace")
        return {"base64": base64.b64encode(data).decode()}


def retry_after_s(headers: Mapping[str, str], now: int) -> float | None:
    """Seconds of `Retry-After` (RFC 9110, 10.2.3), a number or a date; None when absent or unreadable."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
        told = parsedate_to_datetime(headers["Date"]) if "Date" in headers else None
    except ValueError:
        return None
    base = told or datetime.fromtimestamp(now / SECOND, UTC)
    return max((_aware(at) - _aware(base)).total_seconds(), 0.0)


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def shown(url: URL) -> str:
    """URL for people: without user, password and query, which may be secrets."""
    return str(url.with_user(None).with_query(None).with_fragment(None))
