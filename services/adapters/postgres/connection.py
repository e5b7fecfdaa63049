"""Connections that do not hang: opened with our types and settings, cut when the server is silent."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.adapters.postgres import binary

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Row = tuple[Any, ...]
Parameters = Mapping[str, Any] | Sequence[Any] | None

CONNECT_TIMEOUT_S = 5
# The kernel's own detection of a dead link; `bounded` covers a peer that is alive but silent.
TCP = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


async def connect(url: str, *, application_name: str, settings: Mapping[str, str | int]) -> Connection:
    """Open an autocommit connection to the writable server with `settings` (names of server parameters).

    Raises psycopg.OperationalError.
    """
    given = conninfo_to_dict(url)
    options = " ".join([str(given.pop("options", None) or "")] + [f"-c {k}={v}" for k, v in settings.items()])
    given.update(
        TCP,
        connect_timeout=CONNECT_TIMEOUT_S,
        application_name=application_name,
        options=options.strip(),
        target_session_attrs="read-write",
    )
    connection = await psycopg.AsyncConnection.connect(make_conninfo("", **given), autocommit=True)
    binary.register(connection)
    return connection


def cut(connection: Connection) -> None:
    """Break the connection's socket: whoever waits on it gets an OperationalError at once."""
    if connection.closed:
        return
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as twin:
        try:
            twin.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # gone already


def has_ended(connection: Connection) -> bool:
    """Whether the server has said goodbye on an idle connection, as far as our kernel knows: costs no round trip.

    Asked before a statement is sent, it tells "nothing was sent" from "the outcome is unknown".
    """
    if connection.closed:
        return True
    poller = select.poll()
    poller.register(connection.pgconn.socket, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poller.poll(0))


@contextmanager
def bounded(connection: Connection, timeout_s: float) -> Iterator[None]:
    """Cut the connection when the block takes longer than `timeout_s`, by the loop's clock."""
    timer = asyncio.get_running_loop().call_later(timeout_s, cut, connection)
    try:
        yield
    finally:
        timer.cancel()


async def fetch(
    connection: Connection,
    query: str,
    parameters: Parameters = None,
    *,
    prepare: bool | None = None,
) -> list[Row]:
    """Run one statement and return its rows; ids come as bytes, instants as microseconds.

    `prepare`: keep the statement's plan on the connection at once; by default from its fifth use on.
    """
    cursor = await connection.execute(query, parameters, prepare=prepare, binary=True)
    # Asking the result costs nothing; `cursor.description` makes an object for every column.
    result = cursor.pgresult
    return await cursor.fetchall() if result is not None and result.nfields else []
