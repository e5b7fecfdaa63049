"""Retry policies, timeouts, and waits that cannot end in time."""

from __future__ import annotations

from services.core.definition.duration import duration_text, duration_us
from services.core.definition.model import Join, RetryPolicy, Timeouts
from services.core.errors import NEVER_RETRIED
from services.core.units import DAY, SECOND
from services.core.validation.reviewing import Review

COEFFICIENT_MAX = 1_000.0
DURATION_MAX_US = 366 * DAY
WORKFLOW_TIMEOUT_MIN_US = SECOND


def check_policies(found: Review) -> None:
    """Ranges of every retry policy and timeout of the workflow and its nodes."""
    definition = found.definition
    if (
        definition.timeout_us is not None
        and not WORKFLOW_TIMEOUT_MIN_US <= definition.timeout_us <= DURATION_MAX_US
    ):
        found.error("timeout", "OUT_OF_RANGE", "must be from 1s to 366d")
    if definition.default_retry_policy is not None:
        _check_retry(found, definition.default_retry_policy, "default_retry_policy")
    for index, node in enumerate(definition.nodes):
        if node.retry_policy is not None:
            _check_retry(found, node.retry_policy, f"nodes[{index}].retry_policy")
        if node.timeouts is not None:
            _check_timeouts(found, node.timeouts, f"nodes[{index}].timeouts")


def _check_retry(found: Review, policy: RetryPolicy, path: str) -> None:
    if policy.coefficient is not None and not 1.0 <= policy.coefficient <= COEFFICIENT_MAX:
        message = f"must be from 1 to {COEFFICIENT_MAX:g}, not {policy.coefficient:g}"
        found.error(f"{path}.coefficient", "OUT_OF_RANGE", message)
    if policy.jitter is not None and not 0.0 <= policy.jitter <= 1.0:
        found.error(f"{path}.jitter", "OUT_OF_RANGE", f"is a ratio from 0 to 1, not {policy.jitter:g}")
    for field in ("base_delay", "max_delay", "max_elapsed"):
        length = getattr(policy, f"{field}_us")
        if length is not None and length > DURATION_MAX_US:
            found.error(f"{path}.{field}", "OUT_OF_RANGE", "must be at most 366d")
    if policy.max_delay_us is not None and policy.base_delay_us is not None:
        if policy.max_delay_us < policy.base_delay_us:
            found.error(f"{path}.max_delay", "OUT_OF_RANGE", "must not be shorter than `base_delay`")
    for index, name in enumerate(policy.retryable_errors):
        if name in NEVER_RETRIED:
            found.error(f"{path}.retryable_errors[{index}]", "NO_EFFECT", f"{name} is never retried")


def _check_timeouts(found: Review, timeouts: Timeouts, path: str) -> None:
    for field in ("schedule_to_start", "start_to_close", "schedule_to_close", "heartbeat"):
        length = getattr(timeouts, f"{field}_us")
        if length is not None and not 0 < length <= DURATION_MAX_US:
            found.error(f"{path}.{field}", "OUT_OF_RANGE", "must be longer than 0s and at most 366d")
    whole = timeouts.schedule_to_close_us
    for field in ("schedule_to_start", "start_to_close"):
        length = getattr(timeouts, f"{field}_us")
        if length is not None and whole is not None and length > whole:
            message = "is longer than `schedule_to_close`, which ends the node before"
            found.warning(f"{path}.{field}", "NO_EFFECT", message)
    one = timeouts.start_to_close_us
    if timeouts.heartbeat_us is not None and one is not None and timeouts.heartbeat_us > one:
        found.warning(
            f"{path}.heartbeat", "NO_EFFECT", "is longer than `start_to_close`, which ends the attempt before"
        )


def check_waits(found: Review, default_timeout_us: int) -> None:
    """Warns where the delays on the way to a node cannot end before the execution's timeout does."""
    if found.cyclic:
        return
    definition = found.definition
    timeout = definition.timeout_us or default_timeout_us
    ends_at = [0] * len(definition.nodes)
    for index in found.order:
        node, before = definition.nodes[index], [ends_at[source] for source in found.predecessors[index]]
        # The shortest way that could reach it: paths not taken do not hold a node up, except where all must be.
        reached = (max if node.join is Join.ALL_TAKEN else min)(before, default=0)
        length = _constant_delay(node.type, node.parameters)
        ends_at[index] = reached + length
        if length and reached < timeout <= ends_at[index]:
            whose = (
                "the workflow's timeout"
                if definition.timeout_us
                else "the default timeout; set the workflow's"
            )
            message = f"cannot end in time: waits until {duration_text(ends_at[index])}, {duration_text(timeout)} is {whose}"
            found.warning(f"nodes[{index}].parameters.duration", "WAIT_TOO_LONG", message)


def _constant_delay(node_type: str, parameters: object) -> int:
    if node_type != "delay" or not isinstance(parameters, dict):
        return 0
    return duration_us(parameters.get("duration")) or 0
