"""What the page answers, case by case: the choice, the words, and what is said against them."""

import math
from dataclasses import replace

import pytest
from drawn_runs import SEEDS, drawn_run, references, seeds_of, statistics_of

from ripu_lightning.report.page.annotation_cost import AnnotationModel
from ripu_lightning.report.page.group_statistics import GroupStatistics
from ripu_lightning.report.page.group_tables import all_runs, labels_needed, summary
from ripu_lightning.report.page.html_page import make_section
from ripu_lightning.report.page.recommendation import recommend

BOUND = references("all", 0.60, 0.601, 0.602)


def comparisons_of(statistics: GroupStatistics) -> dict[str, str]:
    return {str(row[0]): str(row[7]) for row in summary(statistics).rows}


def needed_of(statistics: GroupStatistics) -> dict[str, list[str]]:
    """Of each method: labels for 90, 95, 99% of the bound, area, its half, its end."""
    return {row[0]: row[2:] for row in labels_needed(statistics).texts()}


def test_three_seeds_three_budgets_and_a_bound() -> None:
    rises = {0.01: 0.50, 0.022: 0.575, 0.05: 0.58}
    runs = [
        run
        for amount, rise in rises.items()
        for strategy, less in (("ripu", (0, 0, 0)), ("random", (0.04, 0.041, 0.043)), ("entropy", (0.004, -0.002, 0)))
        for run in seeds_of(strategy, *(rise + seed / 1000 - part for seed, part in enumerate(less)), amount=amount)
    ]
    assert recommend(statistics_of(runs, BOUND, references("none", 0.2, 0.21, 0.205))) == [
        "Use ripu (or entropy: not distinguishable), and label 2.20% of the pool: the smallest budget that was run and "
        "reaches 95% of the bound.",
        "With ratio 0.022 per image, 2 rounds (2.20% of the pool) it reaches 57.6 ± 0.2% mIoU (3 seeds), 96% of the "
        "bound, which is 60.1 ± 0.2% mIoU (3 seeds) with all labels; without any target label it is 20.5 ± 1.2% mIoU "
        "(3 seeds).",
        "Its curve keeps 95% of the bound from 2.17% on, between its rounds; a run that ends there may reach something "
        "else.",
        "At the same budget it is distinguishably better than random.",
        "Its last round brought +18.8 ± 0.1 points of mIoU.",
    ]


def test_a_budget_is_the_same_only_where_as_much_was_labelled() -> None:
    full = [*seeds_of("ripu", 0.50, 0.51, 0.52, share=0.0423), *seeds_of("random", 0.40, 0.41, 0.42, share=0.042)]
    statistics = statistics_of(full, seeds_of("ripu_point", 0.30, 0.31, 0.33, share=0.001))
    lines = recommend(statistics)
    unequal = "methods labelled unequal shares of the pool, from 0.10% (ripu_point) to 4.23% (ripu)."
    assert lines[1].endswith(unequal)
    assert "It is distinguishably better than random, ripu_point." in lines
    assert not any("same budget" in line for line in lines)
    section = make_section("group_1", statistics.group, AnnotationModel())
    assert [line.endswith(unequal) for line in section.cautions] == [True]
    areas = {name: cells[3:] for name, cells in needed_of(statistics).items()}
    assert areas["ripu_point"] == ["curve too short", "–", "4.20"]
    assert [cells[2] for cells in areas.values()] == ["4.20"] * 3
    assert "–" not in areas["ripu"] + areas["random"]


def test_shares_that_differ_a_little_are_one_budget() -> None:
    statistics = statistics_of(seeds_of("ripu", 0.50, 0.51), seeds_of("random", 0.40, 0.41, share=0.019))
    assert any(
        line.startswith("At the same budget it is distinguishably better than random") for line in recommend(statistics)
    )
    assert not any("unequal" in line for line in recommend(statistics))
    assert {cells[5] for cells in needed_of(statistics).values()} == {"1.90"}


def test_an_easy_seed_of_its_own_makes_no_method_the_best() -> None:
    statistics = statistics_of(seeds_of("a", 0.50, 0.52, 0.90), seeds_of("b", 0.60, 0.621))
    assert comparisons_of(statistics) == {"a": "lower", "b": "best"}
    assert recommend(statistics)[0].startswith(
        "Use b, and label 2.00% of the pool: the highest mean over shared seeds."
    )


def test_what_is_higher_on_the_shared_seeds_is_never_called_lower() -> None:
    """No two seeds are everybody's, so that the means over the own seeds choose."""
    a = [drawn_run("a", seed, [0.2, final]) for seed, final in ((1, 0.90), (2, 0.50), (3, 0.51))]
    b = [drawn_run("b", seed, [0.2, final]) for seed, final in ((2, 0.60), (3, 0.611), (4, 0.612))]
    c = [drawn_run("c", seed, [0.2, final]) for seed, final in ((3, 0.3), (4, 0.3), (5, 0.3))]
    statistics = statistics_of(a, b, c)
    assert comparisons_of(statistics) == {
        "a": "best",
        "b": "higher on the shared seeds",
        "c": "one seed: cannot be tested",
    }
    lines = recommend(statistics)
    assert lines[0].startswith("Use a (or b: higher on the shared seeds), and")
    assert "At the same budget it is distinguishably better than no other method." in lines


def test_without_a_table_of_rounds_the_end_still_counts() -> None:
    statistics = statistics_of(seeds_of("a", 0.60, 0.60, 0.601, stages=False), seeds_of("b", 0.4, 0.41), BOUND)
    lines = recommend(statistics)
    assert "Use a, and label 2.00% of the pool: the smallest budget that was run and reaches 95%" in lines[0]
    assert not any("not reached" in line or "last round" in line for line in lines)
    needed = needed_of(statistics)
    assert needed["a"] == ["2.00", "2.00", "2.00", "no curve", "–", "–"]
    assert needed["b"][:3] == ["not reached"] * 3


def test_one_table_of_three_makes_no_curve() -> None:
    curves = {1: [0.2, 0.6, 0.65], 2: [0.2, 0.3, 0.5], 3: [0.2, 0.3, 0.5]}
    statistics = statistics_of([drawn_run("a", seed, each, stages=seed == 1) for seed, each in curves.items()], BOUND)
    assert needed_of(statistics)["a"] == ["2.00", "not reached", "not reached", "no curve", "–", "–"]
    section = make_section("group_1", statistics.group, AnnotationModel())
    assert "curves" not in [chart.name for chart in section.charts]


def test_what_was_reached_and_lost_again_is_no_answer() -> None:
    statistics = statistics_of([drawn_run("a", seed, [0.2, 0.58, 0.50 + seed / 100]) for seed in SEEDS], BOUND)
    lines = recommend(statistics)
    assert lines[0] == "Use a, and label 2.00% of the pool: the highest mean that was reached."
    share = 0.01 * (0.95 * 0.601 - 0.2) / (0.58 - 0.2)
    assert f"with all labels (95% was reached at {100 * share:.2f}%, then lost)" in lines[1]
    assert needed_of(statistics)["a"][1] == f"at {100 * share:.2f}, then lost"


def test_the_budget_named_is_one_that_was_run() -> None:
    small = seeds_of("a", 0.565, 0.566, 0.567, amount=0.01)
    large = [drawn_run("a", seed, [0.2, 0.575, 0.6 + seed / 1000], amount=0.05) for seed in SEEDS]
    lines = recommend(statistics_of(small, large, seeds_of("a", 0.61, 0.62, 0.63, amount=0.1), BOUND))
    assert lines[0].startswith("Use a, and label 5.00% of the pool: the smallest budget that")
    share = 0.025 * (0.95 * 0.601 - 0.2) / (0.575 - 0.2)
    assert f"Its curve keeps 95% of the bound from {100 * share:.2f}% on, between its rounds" in lines[2]


def test_no_labels_are_needed_where_source_only_is_near_the_bound() -> None:
    source = references("none", 0.58, 0.58, 0.581)
    lines = recommend(statistics_of(seeds_of("a", 0.6, 0.601, 0.602, start=0.3), BOUND, source))
    assert lines[0] == (
        "No labels are needed for 95% of the bound: source only reaches 58.0 ± 0.1% mIoU (3 seeds). "
        "To label some nevertheless, use a, and label 2.00% of the pool: the highest mean that was reached."
    )
    assert not any("keeps 95%" in line or "not reached" in line for line in lines)
    lines = recommend(statistics_of(seeds_of("a", 0.6, 0.601, 0.602, start=0.58), BOUND))
    assert lines[0].startswith(
        "No labels are needed for 95% of the bound: a before its first round reaches 58.0 ± 0.0%"
    )


def test_a_bound_below_source_only_is_no_bound() -> None:
    bound = references("all", 0.3, 0.31, 0.32)
    statistics = statistics_of(seeds_of("a", 0.5, 0.51, 0.52), bound, references("none", 0.4, 0.4, 0.4))
    lines = recommend(statistics)
    assert lines[0] == "Use a, and label 2.00% of the pool: the highest mean that was reached."
    assert "no more than the 40.0 ± 0.0% mIoU (3 seeds) of source only: that is no bound" in lines[1]
    assert not any("of the bound" in line for line in lines)
    assert needed_of(statistics)["a"][:3] == ["–"] * 3
    assert {row[4] for row in summary(statistics).rows} == {None}


def test_a_smaller_budget_that_may_do_as_well_is_named() -> None:
    large = seeds_of("a", 0.62, 0.60, 0.613, amount=0.05)
    smaller = [*seeds_of("a", 0.60, 0.61, 0.62, amount=0.01), *seeds_of("b", 0.50, 0.51, 0.52, amount=0.01)]
    start = "A smaller budget is not distinguishable from it: a (1.00% of the pool, -0.1 ± "
    assert any(line.startswith(start) for line in recommend(statistics_of(large, smaller)))
    worse = seeds_of("a", 0.52, 0.50, 0.514, amount=0.01)
    assert not any("smaller" in line for line in recommend(statistics_of(large, worse)))
    lone = [drawn_run("a", 1, [0.2, 0.4, 0.7], amount=0.01)]
    lines = recommend(statistics_of(large, lone))
    assert not any("smaller" in line for line in lines)
    assert lines[0].startswith("Use a, and label 5.00% of the pool: the highest mean with two seeds")


def test_a_stray_seed_spoils_no_answer() -> None:
    sound = [*seeds_of("a", 0.60, 0.601, 0.602), *seeds_of("b", 0.5, 0.502, 0.504)]
    for final in (0.3, 0.9):
        statistics = statistics_of(sound, seeds_of("c", final))
        lines = recommend(statistics)
        assert lines[0].startswith("Use a, and label 2.00% of the pool: the highest mean")
        assert "At the same budget it is distinguishably better than b." in lines
        assert f"Too few seeds for a comparison: c, {100 * final:.1f}% mIoU (1 seed)." in lines
        assert comparisons_of(statistics)["c"] == "one seed: cannot be tested"
    assert recommend(statistics_of(sound, BOUND, seeds_of("c", 0.6, amount=0.01)))[0].endswith(
        "the smallest budget that was run and reaches 95% of the bound with two seeds or more."
    )


@pytest.mark.parametrize("other", [[drawn_run("b", 1, [0.2, 0.5])], [drawn_run("b", n, [0.2, 0.5]) for n in (8, 9)]])
def test_a_choice_without_common_seeds_is_none(other: list) -> None:
    a = [drawn_run("a", seed, [0.2, 0.6]) for seed in SEEDS]
    assert recommend(statistics_of(a, other))[0].startswith(
        "No other method of this budget has two seeds in common with it. By the mean, use a, and label 2.00%"
    )


def test_a_last_round_that_was_not_counted_is_not_mentioned() -> None:
    lines = recommend(statistics_of([drawn_run("a", seed, [0.2, math.nan, 0.6]) for seed in SEEDS]))
    assert not any("last round" in line for line in lines)


def test_a_finished_run_without_figures_is_no_unfinished_one() -> None:
    run = drawn_run("a", 1, [0.2, 0.5])
    blank = replace(run, result=replace(run.result, miou=None))
    early = replace(run, result=replace(run.result, miou=None, budget={**run.result.budget, "rounds_done": 0}))
    assert [row[3] for row in all_runs([run, blank, early]).rows] == ["finished", "no mIoU", "unfinished"]
    assert recommend(statistics_of([blank])) == [
        "No finished run of this group has queries: there is no strategy to choose."
    ]


def test_names_tell_on_what_and_how_a_budget_is_spent() -> None:
    a = [run for per in ("image", "pool") for run in seeds_of("a", 0.5, 0.51, per=per)]
    assert [(method.label, method.family) for method in statistics_of(a).group.methods] == [
        ("a (per image)", "a (per image)"),
        ("a (per pool)", "a (per pool)"),
    ]
    a = [run for split in ("even", "geometric") for run in seeds_of("a", 0.5, 0.51, budget={"split": split})]
    assert [method.label for method in statistics_of(a).group.methods] == ["a (split even)", "a (split geometric)"]


def test_families_differ_where_their_labels_had_to_be_cut() -> None:
    weights = ([1, 1, 1, 1, 1], [2, 2, 2, 2, 1], [2, 2, 2, 2, 2])
    runs = [
        run
        for values in weights
        for amount in (0.01, 0.02)
        for run in seeds_of("a", 0.5, amount=amount, loss={f"w{index}": value for index, value in enumerate(values)})
    ]
    methods = statistics_of(runs).group.methods
    assert len({method.label for method in methods}) == 6
    assert all(", ...)" in method.label for method in methods)
    assert len({method.family for method in methods}) == 3
    assert [method.family for method in methods].count("a (w0 2, w1 2, w2 2, w3 2, w4 2)") == 2
