"""Executions that the core failed on are tried again by a newer release: what failed names the release it failed in."""

from __future__ import annotations

from collections.abc import Callable

from services.adapters.log import get_logger
from services.adapters.metrics import version
from services.adapters.postgres.executions import ExecutionStore
from services.scheduler.batch import Batch

RELEASED_MAX = 100

log = get_logger(__name__)


def reason(text: str) -> bytes:
    """What is written beside the history of a quarantined execution: the release, and what went wrong in it."""
    return f"{version()}: {text}".encode("utf-8", "replace")[:2000]


class Quarantine:
    """Takes executions out of quarantine once."""

    def __init__(
        self, rows: ExecutionStore, owned: set[int], prepare: Callable[[Callable[[Batch], None]], None]
    ) -> None:
        self._rows = rows
        self._owned = owned
        self._prepare = prepare

    async def run_once(self) -> dict[str, int]:
        """Release what another release quarantined; it is loaded, and decided, like any other again."""
        if not self._owned:
            return {}
        mine = reason("").strip()
        rows = await self._rows.quarantined(sorted(self._owned), RELEASED_MAX)
        again = [row.start.execution_id for row in rows if not (row.quarantine or b"").startswith(mine)]
        if again:
            log.warning("quarantine lifted for this release", executions=len(again))
            self._prepare(lambda batch: batch.quarantines.update(dict.fromkeys(again)))
        return {"released": len(again)}
