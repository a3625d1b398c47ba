"""Stages: spans partition the run, rounds fall where they were planned, and what does not fit is refused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.errors import UserError
from ripu_lightning.training.stages import Stages

positive = st.integers(1, 60)


@given(positive, st.integers(0, 60), positive, st.integers(0, 8))
def test_spans_partition_the_steps_or_are_refused(steps: int, first_round: int, interval: int, rounds: int) -> None:
    planned = [first_round + number * interval for number in range(rounds)]
    if any(step >= steps for step in planned):
        with pytest.raises(UserError, match=r"budget\.rounds.*schedule\.interval.*schedule\.steps"):
            Stages(steps, first_round, interval, rounds)
        return
    stages = Stages(steps, first_round, interval, rounds)
    spans = stages.spans
    assert [step for start, stop in spans for step in range(start, stop)] == list(range(steps))
    assert [0] * stages.early + [stop for _, stop in spans[:-1]] == planned
    assert all(start < stop for start, stop in spans)
    assert all(first[1] == second[0] for first, second in pairwise(spans))


def test_published_schedule() -> None:
    spans = Stages(steps=40_000, first_round=10_000, interval=2_000, rounds=5).spans
    assert [stop for _, stop in spans] == [10_000, 12_000, 14_000, 16_000, 18_000, 40_000]


def test_no_rounds_is_one_stage() -> None:
    assert Stages(steps=7, first_round=100, interval=100, rounds=0).spans == [(0, 7)]


def test_source_free_schedule() -> None:
    stages = Stages(steps=30_000, first_round=0, interval=2_000, rounds=5)
    assert [stop for _, stop in stages.spans] == [2_000, 4_000, 6_000, 8_000, 30_000]
    assert stages.early == 1
    assert Stages(steps=7, first_round=0, interval=100, rounds=0).early == 0


@pytest.mark.parametrize("value", [0, -3, 2.5, "10"])
@pytest.mark.parametrize("key", ["schedule.steps", "schedule.first_round", "schedule.interval", "budget.rounds"])
def test_values_out_of_range_name_their_key(key: str, value: object) -> None:
    good = {"steps": 100, "first_round": 10, "interval": 10, "rounds": 2}
    if value == 0 and key in {"budget.rounds", "schedule.first_round"}:
        assert Stages(**{**good, key.split(".")[1]: 0}).spans[-1][1] == 100
        return
    with pytest.raises(UserError, match=key) as caught:
        Stages(**{**good, key.split(".")[1]: value})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_rounds_than_steps_tells_the_step() -> None:
    with pytest.raises(UserError, match="round 4 would come after step 100, but the run has 100 steps"):
        Stages(steps=100, first_round=40, interval=20, rounds=4)
