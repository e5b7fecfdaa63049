"""Reads a NATS credentials file: a JWT and an Ed25519 seed, as `nsc` writes them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_BLOCK = re.compile(r"-{3,}BEGIN ([A-Z ]+?)-{3,}\s+(\S+)\s+-{3,}END")
_SEED_PREFIX_BYTES = 2
_SEED_BYTES = 32
_CHECKSUM_BYTES = 2


class CredentialsError(ValueError):
    """The credentials file is not one."""


class Credentials:
    """Answers a server's challenge."""

    def __init__(self, token: str, key: Ed25519PrivateKey) -> None:
        self._token = token
        self._key = key

    def jwt(self) -> bytes:
        """The user's JWT."""
        return self._token.encode()

    def sign(self, nonce: str) -> bytes:
        """The server's nonce, signed, in base64."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def read_credentials(path: Path) -> Credentials:
    """Reads a file with a NATS USER JWT and a USER NKEY SEED. Raises OSError or `CredentialsError`."""
    blocks = dict(_BLOCK.findall(path.read_text()))
    token, seed = blocks.get("NATS USER JWT"), blocks.get("USER NKEY SEED")
    if not token or not seed:
        raise CredentialsError(f"{path}: needs a NATS USER JWT and a USER NKEY SEED")
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except ValueError as error:
        raise CredentialsError(f"{path}: the seed is not base32") from error
    if len(raw) != _SEED_PREFIX_BYTES + _SEED_BYTES + _CHECKSUM_BYTES:
        raise CredentialsError(f"{path}: the seed has the wrong length")
    return Credentials(token, Ed25519PrivateKey.from_private_bytes(raw[_SEED_PREFIX_BYTES:-_CHECKSUM_BYTES]))
