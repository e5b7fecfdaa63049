"""A TCP proxy on loopback that loses a request or a reply, or cuts, at the moment a test chooses."""

from __future__ import annotations

import asyncio
from types import TracebackType

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """Stands between a client and PostgreSQL; `url` leads through it.

    `lose_request` and `lose_reply` act on the next bytes of that direction: they are dropped and the client's
    connection is cut, while the server keeps what it got. `silent` swallows everything but cuts nothing.
    """

    def __init__(self, database_url: str) -> None:
        self._target = conninfo_to_dict(database_url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.lose_request = False
        self.lose_reply = False
        self.silent = False
        self.lost = asyncio.Event()

    @property
    def url(self) -> str:
        """URL of the same database through the proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return make_conninfo("", **{**self._target, "host": "127.0.0.1", "port": port})

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        host, port = str(self._target["host"]), int(str(self._target["port"]))
        server_reader, server_writer = await asyncio.open_connection(host, port)
        self._writers |= {writer, server_writer}
        await asyncio.gather(
            self._pump(reader, server_writer, writer, request=True),
            self._pump(server_reader, writer, writer, request=False),
            return_exceptions=True,
        )
        self._writers -= {writer, server_writer}
        server_writer.transport.abort()
        writer.transport.abort()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        *,
        request: bool,
    ) -> None:
        try:
            while data := await source.read(65536):
                if self.silent:
                    continue
                if self.lose_request if request else self.lose_reply:
                    self.lose_request = self.lose_reply = False
                    self.lost.set()
                    client.transport.abort()
                    return
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            # The server is left to finish what it has; only the client's end is closed with its source.
            if not request:
                client.transport.abort()
