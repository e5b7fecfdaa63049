"""When a failed attempt is followed by another: the retry policy as a pure function.

Delay before attempt n+1, n counting from 1: FIXED d, LINEAR d·n, EXPONENTIAL d·cⁿ⁻¹, at most `max_delay`, times
a factor drawn evenly from 1 ± jitter. The draw is an argument, recorded through the event's `retry_at`.
"""

from __future__ import annotations

from services.core.definition.model import Backoff
from services.core.errors import NEVER_RETRIED, TIMEOUT, NodeError
from services.core.graph import ResolvedRetry

RETRYABLE_TIMEOUTS = frozenset({"start_to_close", "heartbeat"})


def is_retryable(policy: ResolvedRetry, error: NodeError) -> bool:
    """Whether the policy may retry this error, attempts and time left aside.

    `retryable: false` of the failure wins over every policy, then `non_retryable`; a list of `retryable` errors
    is the whole list when it is not empty.
    """
    if not error.retryable or error.type in NEVER_RETRIED or error.type in policy.non_retryable:
        return False
    if error.type == TIMEOUT and error.timeout and error.timeout not in RETRYABLE_TIMEOUTS:
        return False
    return not policy.retryable or error.type in policy.retryable


def delay_us(policy: ResolvedRetry, attempt: int, error: NodeError, draw: float) -> int:
    """Delay before the attempt after `attempt` (the one that just failed, from 1); `draw` is in [0, 1)."""
    cap = policy.max_delay_us
    if error.retry_after_us > 0:
        return min(error.retry_after_us, cap)
    match policy.backoff:
        case Backoff.FIXED:
            delay = float(policy.base_delay_us)
        case Backoff.LINEAR:
            delay = float(policy.base_delay_us) * attempt
        case Backoff.EXPONENTIAL:
            delay = _exponential(policy, attempt)
    delay = min(delay, float(cap))
    return int(delay * (1.0 - policy.jitter + 2.0 * policy.jitter * draw))


def _exponential(policy: ResolvedRetry, attempt: int) -> float:
    try:
        return policy.base_delay_us * float(policy.coefficient) ** (attempt - 1)
    except OverflowError:  # beyond what a double holds, every cap is reached
        return float(policy.max_delay_us)


def retry_at(
    policy: ResolvedRetry,
    error: NodeError,
    *,
    counted: int,
    now: int,
    draw: float,
    first_scheduled_at: int,
    schedule_to_close_us: int | None,
) -> int | None:
    """When the next attempt is scheduled, or None when there is none.

    `counted` attempts count towards the policy, the failed one included (lost ones do not). No attempt starts
    that could not start before `max_elapsed` or `schedule_to_close`.
    """
    if not is_retryable(policy, error):
        return None
    if policy.max_attempts and counted >= policy.max_attempts:
        return None
    at = now + delay_us(policy, counted, error, draw)
    for limit in (policy.max_elapsed_us, schedule_to_close_us):
        if limit is not None and at >= first_scheduled_at + limit:
            return None
    return at
