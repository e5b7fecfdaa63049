"""Tokens: JWT signed with EdDSA (Ed25519). Verifies those of clients, mints them for launcher and tests.

The algorithm is pinned, `iss`, `aud`, `exp` and `nbf` are checked with at most 60 s of skew, and a token with
a critical header we do not know is refused (RFC 7519, RFC 8037).
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OKPKey

from services.adapters.clock import Clock
from services.core.units import SECOND

ALGORITHM = "EdDSA"
SKEW_SECONDS = 60
TOKEN_BYTES_MAX = 8192
NAME_CHARACTERS_MAX = 128
CACHE_ENTRIES_MAX = 10_000


class InvalidToken(Exception):
    """The token proves nothing; `reason` is TOKEN_INVALID or TOKEN_EXPIRED, `claim` the one that is wrong."""

    def __init__(self, reason: str, message: str, claim: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {"claim": claim} if claim else {}


@dataclass(frozen=True, slots=True)
class Identity:
    """On whose behalf a request runs. `expires_at`: microseconds; a stream must end then."""

    organization_id: str
    user_id: str
    roles: frozenset[str] = frozenset()
    expires_at: int = 0


def load_public_key(pem: str) -> OKPKey:
    """Key that verifies tokens. Raises ValueError when `pem` is no PEM of an Ed25519 key."""
    try:
        key = OKPKey.import_key(pem)
    except (JoseError, ValueError, TypeError) as error:
        raise ValueError("it is not the PEM text of an Ed25519 public key") from error
    if key.curve_name != "Ed25519":
        raise ValueError("it is not an Ed25519 key")
    return key


class TokenVerifier:
    """Verifies tokens against one public key; remembers those it has verified until they expire."""

    def __init__(self, public_key: str, issuer: str, audience: str, clock: Clock) -> None:
        """Raises ValueError when `public_key` is no PEM of an Ed25519 key."""
        self._key = load_public_key(public_key)
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._verified: OrderedDict[str, Identity] = OrderedDict()

    def verify(self, token: str) -> Identity:
        """Identity of a token. Raises InvalidToken."""
        identity = self._verified.get(token)
        if identity is not None:
            if self._clock.now() < identity.expires_at:
                return identity
            del self._verified[token]
            raise InvalidToken("TOKEN_EXPIRED", "the token has expired", "exp")
        identity = self._verify_new(token)
        self._verified[token] = identity
        if len(self._verified) > CACHE_ENTRIES_MAX:
            self._verified.popitem(last=False)
        return identity

    def _verify_new(self, token: str) -> Identity:
        if len(token) > TOKEN_BYTES_MAX:
            raise InvalidToken("TOKEN_INVALID", "the token is too long")
        try:
            with _without_naming_advice():
                decoded = jwt.decode(token, self._key, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError) as error:
            raise InvalidToken("TOKEN_INVALID", "the token is malformed or its signature is wrong") from error
        claims = decoded.claims
        now = self._clock.now() // SECOND
        if claims.get("iss") != self._issuer:
            raise InvalidToken("TOKEN_INVALID", "the token comes from another issuer", "iss")
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise InvalidToken("TOKEN_INVALID", "the token is meant for another audience", "aud")
        expires = _seconds(claims, "exp", None)
        if expires + SKEW_SECONDS <= now:
            raise InvalidToken("TOKEN_EXPIRED", "the token has expired", "exp")
        if _seconds(claims, "nbf", 0) - SKEW_SECONDS > now:
            raise InvalidToken("TOKEN_INVALID", "the token is not valid yet", "nbf")
        return Identity(
            organization_id=_name(claims, "org"),
            user_id=_name(claims, "sub"),
            roles=_roles(claims),
            expires_at=(expires + SKEW_SECONDS) * SECOND,
        )


@contextmanager
def _without_naming_advice() -> Iterator[None]:
    """RFC 9864 would have EdDSA called Ed25519; tokens in the world are not, and the curve is checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        yield


def _seconds(claims: dict[str, Any], name: str, default: int | None) -> int:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 53:
        raise InvalidToken("TOKEN_INVALID", f"the token's claim {name} is missing or not a time", name)
    return int(value)


def _name(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARACTERS_MAX or "\0" in value:
        raise InvalidToken("TOKEN_INVALID", f"the token's claim {name} is missing or not a name", name)
    return value


def _roles(claims: dict[str, Any]) -> frozenset[str]:
    value = claims.get("roles", [])
    if not isinstance(value, list) or not all(isinstance(role, str) for role in value):
        raise InvalidToken("TOKEN_INVALID", "the token's claim roles is not a list of names", "roles")
    return frozenset(value)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM texts of an Ed25519 key pair."""

    private_key: str
    public_key: str


def new_key_pair() -> KeyPair:
    """Fresh Ed25519 key pair, for the launcher and for tests."""
    key = OKPKey.generate_key("Ed25519", private=True)
    return KeyPair(key.as_pem(private=True).decode(), key.as_pem(private=False).decode())


def mint(private_key: str, claims: dict[str, Any]) -> str:
    """Token with exactly these claims, signed with a PEM private key."""
    header = {"alg": ALGORITHM, "typ": "JWT"}
    with _without_naming_advice():
        return jwt.encode(header, claims, OKPKey.import_key(private_key), algorithms=[ALGORITHM])


def mint_for(
    private_key: str,
    identity: Identity,
    *,
    issuer: str,
    audience: str,
    now: int,
    lifetime_s: int = 3600,
) -> str:
    """Token of an identity, valid from `now` (microseconds) for `lifetime_s`."""
    at = now // SECOND
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": identity.user_id,
        "org": identity.organization_id,
        "roles": sorted(identity.roles),
        "iat": at,
        "nbf": at,
        "exp": at + lifetime_s,
    }
    return mint(private_key, claims)
