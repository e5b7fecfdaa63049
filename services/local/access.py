"""Tokens of a one-machine stack: the key pair is made once and stays in the state directory."""

from __future__ import annotations

from pathlib import Path

from services.adapters.clock import SystemClock
from services.adapters.tokens import Identity, KeyPair, mint_for, new_key_pair
from services.local.files import write_private

ISSUER = "weconnect-local"
AUDIENCE = "weconnect.executions"
ORGANIZATION = "local"
USER = "developer"
ROLES = frozenset({"admin"})
TOKEN_SECONDS = 30 * 24 * 3600


class Access:
    """Signs tokens; the services of the stack get the public half."""

    def __init__(self, directory: Path) -> None:
        self._private_file = directory / "token-key.pem"
        self._public_file = directory / "token-public-key.pem"

    def environment(self) -> dict[str, str]:
        """Variables with which a service accepts our tokens."""
        self._private_key()
        return {
            "WECONNECT_TOKEN_PUBLIC_KEY": f"@{self._public_file.absolute()}",
            "WECONNECT_TOKEN_ISSUER": ISSUER,
            "WECONNECT_TOKEN_AUDIENCE": AUDIENCE,
        }

    def token(
        self,
        organization_id: str = ORGANIZATION,
        user_id: str = USER,
        roles: frozenset[str] = ROLES,
        lifetime_s: int = TOKEN_SECONDS,
    ) -> str:
        """A token (JWT, EdDSA) for one user of one organization."""
        return mint_for(
            self._private_key(),
            Identity(organization_id, user_id, roles),
            issuer=ISSUER,
            audience=AUDIENCE,
            now=SystemClock().now(),
            lifetime_s=lifetime_s,
        )

    def _private_key(self) -> str:
        if not self._private_file.exists():
            keys: KeyPair = new_key_pair()
            write_private(self._public_file, keys.public_key)
            write_private(self._private_file, keys.private_key)
        return self._private_file.read_text(encoding="ascii")
