"""The schedule: spans partition the run, rounds are where they were planned, and what does not fit is refused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.errors import InvalidArgument
from ripu_lightning.training.schedule import Schedule

positive = st.integers(1, 60)


@given(positive, st.integers(0, 60), positive, st.integers(0, 8))
def test_spans_partition_the_steps_or_are_refused(steps: int, first_round: int, interval: int, rounds: int) -> None:
    planned = [first_round + number * interval for number in range(rounds)]
    if any(step >= steps for step in planned):
        with pytest.raises(
            InvalidArgument, match=r"Schedule: rounds must be smaller.* reduce rounds or interval, or increase steps"
        ):
            Schedule(steps, first_round, interval, rounds)
        return
    schedule = Schedule(steps, first_round, interval, rounds)
    spans = schedule.spans
    assert [step for start, stop in spans for step in range(start, stop)] == list(range(steps))
    assert [0] * schedule.initial_rounds + [stop for _, stop in spans[:-1]] == planned
    assert all(start < stop for start, stop in spans)
    assert all(first[1] == second[0] for first, second in pairwise(spans))


def test_published_schedule() -> None:
    spans = Schedule(steps=40_000, first_round=10_000, interval=2_000, rounds=5).spans
    assert [stop for _, stop in spans] == [10_000, 12_000, 14_000, 16_000, 18_000, 40_000]


def test_no_rounds_is_one_stage() -> None:
    assert Schedule(steps=7, first_round=100, interval=100, rounds=0).spans == [(0, 7)]


def test_source_free_schedule() -> None:
    schedule = Schedule(steps=30_000, first_round=0, interval=2_000, rounds=5)
    assert [stop for _, stop in schedule.spans] == [2_000, 4_000, 6_000, 8_000, 30_000]
    assert schedule.initial_rounds == 1
    assert Schedule(steps=7, first_round=0, interval=100, rounds=0).initial_rounds == 0


@pytest.mark.parametrize("value", [0, -3, 2.5, "10"])
@pytest.mark.parametrize("argument", ["steps", "first_round", "interval", "rounds"])
def test_values_out_of_range_name_their_argument(argument: str, value: object) -> None:
    good = {"steps": 100, "first_round": 10, "interval": 10, "rounds": 2}
    if value == 0 and argument in {"rounds", "first_round"}:
        assert Schedule(**{**good, argument: 0}).spans[-1][1] == 100
        return
    with pytest.raises(InvalidArgument, match=f"Schedule: {argument} must be a whole number >= [01], got {value!r}"):
        Schedule(**{**good, argument: value})


def test_more_rounds_than_steps_names_the_step() -> None:
    with pytest.raises(InvalidArgument, match="round 4 would follow step 100, but the run has 100 steps"):
        Schedule(steps=100, first_round=40, interval=20, rounds=4)
