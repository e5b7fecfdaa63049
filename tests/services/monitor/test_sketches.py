"""Summaries of durations: exact while few, within 2 % when many, the same however they are merged."""

from __future__ import annotations

import random

import pytest

from services.monitor.sketches import RELATIVE_ERROR, VALUES_MAX, merge, quantile_us, sketch_of


def exact(values: list[int], quantile: float) -> float:
    ordered = sorted(values)
    return ordered[max(-(-int(quantile * 1000) * len(ordered) // 1000) - 1, 0)]


@pytest.mark.parametrize("count", [1, 2, VALUES_MAX])
def test_few_values_are_exact(count: int) -> None:
    values = [1000 * (i + 1) for i in range(count)]
    assert quantile_us(sketch_of(values), 1.0) == values[-1]
    assert quantile_us(sketch_of(values), 0.5) == exact(values, 0.5)


def test_nothing_has_no_quantile() -> None:
    assert quantile_us(sketch_of([]), 0.5) == 0.0
    assert merge(sketch_of([]), sketch_of([7])) == sketch_of([7])


@pytest.mark.parametrize("sizes", [(10, 5), (20, 20), (5, 500), (400, 3), (300, 300)])
def test_merging_says_what_one_summary_of_all_says(sizes: tuple[int, int]) -> None:
    draw = random.Random(7)
    parts = [[draw.randrange(1_000, 10_000_000) for _ in range(size)] for size in sizes]
    merged = merge(sketch_of(parts[0]), sketch_of(parts[1]))
    everything = parts[0] + parts[1]
    for quantile in (0.5, 0.95, 0.99):
        near = exact(everything, quantile)
        assert quantile_us(merged, quantile) == pytest.approx(near, rel=3 * RELATIVE_ERROR)
        assert quantile_us(merged, quantile) == pytest.approx(
            quantile_us(sketch_of(everything), quantile), rel=3 * RELATIVE_ERROR
        )
