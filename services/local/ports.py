"""Free ports on the loopback interface."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LOWEST = 15_000
_HIGHEST = 32_767  # the first ephemeral port of Linux, less one
_TRIES = 200
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A random port that nothing listens on, below the range from which the kernel takes ports for connections.

    Within that range a client that reconnects to a server which is down may get the server's own port, even
    connect to itself, and then the server cannot come back on it.
    """
    highest = _highest()
    for _ in range(_TRIES):
        port = _LOWEST + secrets.randbelow(highest - _LOWEST + 1)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {_LOWEST} and {highest}")


def _highest() -> int:
    try:
        first_ephemeral = int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _HIGHEST
    # A machine that gives nearly all ports to connections leaves nothing below; then any port must do.
    return first_ephemeral - 1 if first_ephemeral > _LOWEST + _TRIES else 65_535
