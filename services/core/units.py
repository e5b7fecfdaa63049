"""Units of time in the core.

Instants (`*_at`) are whole microseconds since the Unix epoch, UTC, in database time; durations (`*_us`) are
whole microseconds. Integers keep the hot path cheap and the history exact.
"""

from __future__ import annotations

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

KIB = 1024
MIB = 1024 * KIB
