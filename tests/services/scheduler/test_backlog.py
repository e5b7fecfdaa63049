"""Priorities are weighted so that low is served; organizations take turns."""

from __future__ import annotations

from collections import Counter
from typing import cast

from services.scheduler.backlog import WEIGHTS, Backlog, Waiting
from services.scheduler.live import Live


def waiting(number: int) -> Waiting:
    return Waiting(cast("Live", None), number, 1, 0)


def test_all_priorities_are_served_by_weight_while_all_wait() -> None:
    backlog = Backlog()
    for place, priority in enumerate(WEIGHTS):
        for _ in range(100):
            backlog.put(priority, "org", waiting(place))
    served = Counter(cast("Waiting", backlog.take()).node for _ in range(150))
    assert dict(served) == {0: 80, 1: 40, 2: 20, 3: 10}


def test_a_backlog_of_one_organization_does_not_delay_another() -> None:
    backlog = Backlog()
    for _ in range(1000):
        backlog.put("NORMAL", "big", waiting(1))
    backlog.put("NORMAL", "small", waiting(2))
    first_two = {cast("Waiting", backlog.take()).node for _ in range(2)}
    assert first_two == {1, 2}


def test_everything_put_is_taken_once_in_order_of_its_organization() -> None:
    backlog = Backlog()
    for number in range(30):
        backlog.put("LOW" if number % 3 else "HIGH", f"org{number % 2}", waiting(number))
    taken = [cast("Waiting", backlog.take()).node for _ in range(30)]
    assert sorted(taken) == list(range(30))
    assert backlog.take() is None
    assert backlog.size == 0
    for priority in (0, 1):
        for organization in (0, 1):
            mine = [n for n in taken if (n % 3 != 0) == priority and n % 2 == organization]
            assert mine == sorted(mine)
