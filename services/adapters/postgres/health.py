"""Whether the database answers, and what its clock says."""

from __future__ import annotations

from services.adapters.clock import SystemClock
from services.adapters.ops_http import Readiness
from services.adapters.postgres.sessions import SessionStore


class DatabaseHealth:
    """Asks for the database's time: keeps the clock right and says whether there is an answer."""

    def __init__(self, clock: SystemClock, sessions: SessionStore, readiness: Readiness) -> None:
        self._clock = clock
        self._sessions = sessions
        self._readiness = readiness
        self.connected = False

    async def run_once(self) -> dict[str, int]:
        """Ask once. Raises what the store raises."""
        asked_at = self._clock.monotonic()
        try:
            now = await self._sessions.database_now()
        except Exception:
            self.connected = False
            self._readiness.unready("database", "does not answer")
            raise
        self._clock.observe(now, asked_at)
        self.connected = True
        self._readiness.ready("database")
        return {"offset_us": self._clock.offset_us}
