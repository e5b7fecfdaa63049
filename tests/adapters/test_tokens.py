"""Tokens: what is accepted, and every way of being refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from joserfc.jwk import OKPKey

from services.adapters.clock import FixedClock
from services.adapters.tokens import Identity, InvalidToken, TokenVerifier, mint, mint_for, new_key_pair

KEYS = new_key_pair()
START = 1_700_000_000_000_000
AT = START // 1_000_000
CLAIMS: dict[str, Any] = {
    "iss": "weconnect",
    "aud": "weconnect.executions",
    "sub": "ann",
    "org": "acme",
    "roles": ["admin"],
    "exp": AT + 600,
    "nbf": AT,
}


def _verifier(clock: FixedClock | None = None) -> TokenVerifier:
    return TokenVerifier(KEYS.public_key, "weconnect", "weconnect.executions", clock or FixedClock(START))


def test_minted_token_is_accepted_until_it_expires() -> None:
    clock = FixedClock(START)
    verifier = _verifier(clock)
    who = Identity("acme", "ann", frozenset({"admin"}))
    token = mint_for(
        KEYS.private_key, who, issuer="weconnect", audience="weconnect.executions", now=START, lifetime_s=600
    )
    first = verifier.verify(token)
    assert (first.organization_id, first.user_id, first.roles) == ("acme", "ann", frozenset({"admin"}))
    assert verifier.verify(token) is first, "a verified token is remembered"
    clock.advance(661_000_000)
    with pytest.raises(InvalidToken) as refused:
        verifier.verify(token)
    assert refused.value.reason == "TOKEN_EXPIRED"


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"iss": "other"}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": ["other"]}, "aud"),
        ({"exp": AT - 61}, "exp"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"nbf": AT + 61}, "nbf"),
        ({"sub": ""}, "sub"),
        ({"org": None}, "org"),
        ({"org": "x" * 129}, "org"),
        ({"roles": "admin"}, "roles"),
    ],
)
def test_wrong_claims_are_refused(change: dict[str, Any], claim: str) -> None:
    claims = {name: value for name, value in {**CLAIMS, **change}.items() if value is not None}
    with pytest.raises(InvalidToken) as refused:
        _verifier().verify(mint(KEYS.private_key, claims))
    assert refused.value.metadata == {"claim": claim}
    assert refused.value.reason == ("TOKEN_EXPIRED" if change.get("exp") == AT - 61 else "TOKEN_INVALID")


def test_skew_of_a_minute_is_allowed() -> None:
    assert (
        _verifier().verify(mint(KEYS.private_key, {**CLAIMS, "exp": AT - 59, "nbf": AT + 59})).user_id
        == "ann"
    )


def test_audience_may_be_a_list() -> None:
    token = mint(KEYS.private_key, {**CLAIMS, "aud": ["a", "weconnect.executions"]})
    assert _verifier().verify(token).organization_id == "acme"


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def _signed_with_the_public_key() -> str:
    """The classic confusion: HMAC with the public key's text as the secret."""
    head = _encoded(b'{"alg":"HS256"}') + "." + _encoded(json.dumps(CLAIMS).encode())
    return head + "." + _encoded(hmac.new(KEYS.public_key.encode(), head.encode(), hashlib.sha256).digest())


def _with_header(header: dict[str, Any]) -> str:
    """A good signature under a header that demands what we do not know."""
    key: Any = OKPKey.import_key(KEYS.private_key)
    head = _encoded(json.dumps(header).encode()) + "." + _encoded(json.dumps(CLAIMS).encode())
    signature = key.get_op_key("sign").sign(head.encode())
    return head + "." + _encoded(signature)


def test_forged_tokens_are_refused() -> None:
    forged = [
        mint(new_key_pair().private_key, CLAIMS),
        _signed_with_the_public_key(),
        _with_header({"alg": "EdDSA", "crit": ["x"], "x": 1}),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.",
        mint(KEYS.private_key, CLAIMS) + "x",
        "not a token",
        "",
        "a" * 9000,
    ]
    for token in forged:
        with pytest.raises(InvalidToken) as refused:
            _verifier().verify(token)
        assert refused.value.reason == "TOKEN_INVALID"


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="Ed25519"):
        TokenVerifier("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "a", "b", FixedClock())
