"""Deciding expressions that answer yes or no: `when`, `condition`, cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.core.definition.json_values import type_name
from services.core.errors import ExpressionError
from services.core.templates import Expression


def holds(expression: Expression, values: Mapping[str, Any]) -> bool:
    """Whether it is true of `values`. Raises `ExpressionError` also for an answer that is neither true nor false."""
    answer = expression.program.evaluate(values)
    if answer is True or answer is False:
        return answer
    raise ExpressionError(
        f"`{expression.source}` is {type_name(answer)}, not a bool; compare it, as in `{expression.source} == …`"
    )
