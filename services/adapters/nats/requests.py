"""Requests and their answers over one inbox, and the form of a message without payload."""

from __future__ import annotations

import asyncio
import itertools
import secrets

from services.adapters.bus import Disconnected, NoResponders

NO_RESPONDERS = 503


def new_inbox() -> str:
    """A subject that nobody else uses."""
    return f"_INBOX.{secrets.token_hex(11)}"


def status_of(headers: bytes) -> int:
    """Status of a message without payload (`NATS/1.0 503 …`), 0 when it has none."""
    status = headers[9:12]
    return int(status) if status.isdigit() else 0


def header(headers: bytes, name: bytes) -> bytes:
    """Value of a header in a raw block, empty when it is not there."""
    start = headers.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    return headers[start : headers.find(b"\r\n", start)].strip()


class Requests:
    """The requests of one bus that wait for an answer."""

    def __init__(self) -> None:
        self.inbox = new_inbox()
        self._tokens = itertools.count(1)
        self._answers: dict[str, asyncio.Future[bytes]] = {}

    def begin(self) -> tuple[str, str, asyncio.Future[bytes]]:
        """A new request: (token, reply subject, future of its answer). `end` it, whatever happens."""
        token = str(next(self._tokens))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        return token, f"{self.inbox}.{token}", answer

    def end(self, token: str) -> None:
        """Forgets a request."""
        del self._answers[token]

    def on_answer(self, data: bytes, reply: str, subject: str, headers: bytes | None) -> None:
        """Takes what comes to the inbox. Late and second answers change nothing."""
        answer = self._answers.get(subject[subject.rfind(".") + 1 :])
        if answer is None or answer.done():
            return
        if headers is not None and status_of(headers) == NO_RESPONDERS:
            answer.set_exception(NoResponders("nobody answers"))
        else:
            answer.set_result(data)

    def fail(self, reason: str) -> None:
        """Ends all of them with `Disconnected`: their outcome is unknown."""
        for answer in list(self._answers.values()):
            if not answer.done():
                answer.set_exception(Disconnected(reason))
