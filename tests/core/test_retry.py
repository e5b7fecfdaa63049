"""The retry policy: delays, caps, jitter, what is retried at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.compiling import ResolvedRetry
from services.core.definition.model import Backoff
from services.core.errors import (
    CANCELLED,
    CIRCUIT_OPEN,
    EXPRESSION,
    NETWORK,
    NODE_EXECUTION,
    POISON,
    RESOURCE,
    TIMEOUT,
    VALIDATION,
    NodeError,
)
from services.core.retry import delay_us, is_retryable, retry_at
from services.core.units import SECOND

POLICY = ResolvedRetry(max_attempts=3, backoff=Backoff.FIXED, base_delay_us=2 * SECOND, jitter=0.0)
ERROR = NodeError(NETWORK, "no answer")


@pytest.mark.parametrize(
    ("backoff", "seconds"),
    [
        (Backoff.FIXED, [2, 2, 2, 2, 2]),
        (Backoff.LINEAR, [2, 4, 6, 8, 10]),
        (Backoff.EXPONENTIAL, [2, 6, 18, 20, 20]),
    ],
)
def test_delays_before_the_next_attempt(backoff: Backoff, seconds: list[int]) -> None:
    policy = replace(POLICY, backoff=backoff, coefficient=3.0, max_delay_us=20 * SECOND)
    assert [delay_us(policy, n, ERROR, 0.5) // SECOND for n in range(1, 6)] == seconds


@pytest.mark.parametrize("attempt", [1, 64, 65, 1_000_000])
def test_no_number_of_attempts_is_too_many(attempt: int) -> None:
    policy = replace(POLICY, backoff=Backoff.EXPONENTIAL, coefficient=1000.0, max_delay_us=20 * SECOND)
    assert delay_us(policy, attempt, ERROR, 0.5) == (2 if attempt == 1 else 20) * SECOND


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1), st.integers(1, 40))
def test_jitter_is_even_around_the_delay(draw: float, jitter: float, attempt: int) -> None:
    policy = replace(POLICY, backoff=Backoff.LINEAR, jitter=jitter)
    plain = delay_us(replace(policy, jitter=0.0), attempt, ERROR, draw)
    assert plain * (1 - jitter) - 1 <= delay_us(policy, attempt, ERROR, draw) <= plain * (1 + jitter)
    assert abs(delay_us(policy, attempt, ERROR, 0.5) - plain) <= 1


def test_a_failures_own_delay_is_capped_and_has_no_jitter() -> None:
    policy = replace(POLICY, jitter=0.9, max_delay_us=20 * SECOND)
    assert delay_us(policy, 1, replace(ERROR, retry_after_us=7 * SECOND), 0.0) == 7 * SECOND
    assert delay_us(policy, 1, replace(ERROR, retry_after_us=700 * SECOND), 0.0) == 20 * SECOND
    assert delay_us(replace(policy, jitter=0.0), 1, replace(ERROR, retry_after_us=-5), 0.0) == 2 * SECOND


@pytest.mark.parametrize("kind", [NODE_EXECUTION, NETWORK, RESOURCE, CIRCUIT_OPEN, "FRAUD"])
def test_retried_unless_a_policy_says_otherwise(kind: str) -> None:
    error = NodeError(kind, "it broke")
    assert is_retryable(POLICY, error)
    assert not is_retryable(POLICY, replace(error, retryable=False))
    assert not is_retryable(replace(POLICY, non_retryable=frozenset({kind})), error)
    assert is_retryable(replace(POLICY, retryable=frozenset({kind})), error)
    assert not is_retryable(replace(POLICY, retryable=frozenset({"OTHER"})), error)
    both = replace(POLICY, retryable=frozenset({kind}), non_retryable=frozenset({kind}))
    assert not is_retryable(both, error)


@pytest.mark.parametrize("kind", [VALIDATION, EXPRESSION, CANCELLED, POISON])
def test_never_retried(kind: str) -> None:
    assert not is_retryable(replace(POLICY, retryable=frozenset({kind})), NodeError(kind, "it broke"))


@pytest.mark.parametrize(
    ("timeout", "retried"),
    [
        ("start_to_close", True),
        ("heartbeat", True),
        ("schedule_to_start", False),
        ("schedule_to_close", False),
        ("execution", False),
    ],
)
def test_which_timeouts_are_retried(timeout: str, retried: bool) -> None:
    assert is_retryable(POLICY, NodeError(TIMEOUT, "late", timeout=timeout)) is retried


def _retry_at(policy: ResolvedRetry, counted: int = 1, close_us: int | None = None) -> int | None:
    return retry_at(
        policy,
        ERROR,
        counted=counted,
        now=110 * SECOND,
        draw=0.5,
        first_scheduled_at=100 * SECOND,
        schedule_to_close_us=close_us,
    )


def test_attempts_are_counted_the_first_included() -> None:
    assert _retry_at(POLICY, 2) == 112 * SECOND
    assert _retry_at(POLICY, 3) is None
    assert _retry_at(replace(POLICY, max_attempts=0), 1_000_000) == 112 * SECOND


def test_no_attempt_starts_that_could_not_start_in_time() -> None:
    assert _retry_at(replace(POLICY, max_elapsed_us=12 * SECOND)) is None
    assert _retry_at(replace(POLICY, max_elapsed_us=12 * SECOND + 1)) == 112 * SECOND
    assert _retry_at(POLICY, close_us=12 * SECOND) is None
    assert _retry_at(POLICY, close_us=13 * SECOND) == 112 * SECOND
