"""Which runs are averaged, which are compared, and which cautions are given."""

from pathlib import Path

import pytest
from run_folders import made_run

from ripu_lightning.report.page.comparable_groups import Group, group_runs
from ripu_lightning.report.page.group_statistics import GroupStatistics, curve, final, share
from ripu_lightning.report.page.group_tables import summary
from ripu_lightning.report.page.recommendation import recommend
from ripu_lightning.report.page.run_folder import read_run
from ripu_lightning.report.results_by_protocol import read_results


def groups_of(folder: Path) -> list[Group]:
    return group_runs([read_run(entry) for entry in read_results([folder])])


def sweep(folder: Path, seeds: tuple[int, ...] = (1, 2, 3)) -> None:
    for seed in seeds:
        for strategy, miou in (("ripu", 0.50), ("random", 0.42), ("entropy", 0.51 - seed * 0.01)):
            made_run(folder / f"{strategy}{seed}", strategy, seed, miou + seed * 0.005)
        made_run(folder / f"all{seed}", "ripu", seed, 0.55, "all", data__target_labels="all")
        made_run(folder / f"none{seed}", "random", seed, 0.21, "none", loss={"source": 1.0})


def test_seeds_make_one_mean_and_kinds_are_separate(tmp_path: Path) -> None:
    sweep(tmp_path)
    (group,) = groups_of(tmp_path)
    assert [(method.label, method.kind, method.seeds) for method in group.methods] == [
        ("entropy", "queried", [1, 2, 3]),
        ("random", "queried", [1, 2, 3]),
        ("ripu", "queried", [1, 2, 3]),
        ("all labels", "all", [1, 2, 3]),
        ("source only", "none", [1, 2, 3]),
    ]
    assert not [line for line in group.cautions if "seeds" in line]
    statistics = GroupStatistics(group)
    ripu = group.methods[2]
    assert final(ripu).value == pytest.approx((0.505 + 0.51 + 0.515) / 3)
    shares, means = curve(ripu)
    assert shares == [0, pytest.approx(share(ripu) / 2), pytest.approx(share(ripu))]
    assert [mean.value for mean in means] == pytest.approx([0.2, (0.2 + final(ripu).value) / 2, final(ripu).value])
    assert statistics.best(statistics.levels[0]) is ripu
    others = {what: [method.label for method in methods] for what, methods in statistics.others(ripu).items()}
    assert others == {"not distinguishable": ["entropy"], "lower": ["random"]}
    # From 0.2 at nothing to 0.51 at the end, in a line: 90% of 0.55 are at (0.495 - 0.2) / (0.51 - 0.2) of the way.
    at = pytest.approx(share(ripu) * (0.495 - 0.2) / (0.51 - 0.2))
    assert statistics.reached(ripu, 0.9) == (at, at)
    assert statistics.reached(ripu, 0.95) == (None, None)
    assert statistics.area_end(statistics.levels[0]) == pytest.approx(share(ripu))
    assert statistics.area(ripu).value == pytest.approx((0.2 + 0.51) / 2)


def test_the_answer_names_strategy_budget_and_limits(tmp_path: Path) -> None:
    sweep(tmp_path)
    statistics = GroupStatistics(groups_of(tmp_path)[0])
    headline, *reasons = recommend(statistics)
    assert headline.startswith("Use ripu (or entropy: not distinguishable), and label 2.8")
    assert "93% of the bound, which is 55.0 ± 0.0% mIoU (3 seeds) with all labels (95% is not reached)" in reasons[0]
    assert reasons[1] == "At the same budget it is distinguishably better than random."
    found = {row[0]: row[7] for row in summary(statistics).rows}
    assert found == {
        "ripu": "best",
        "random": "lower",
        "entropy": "not distinguishable",
        "all labels": "",
        "source only": "",
    }


def test_a_curve_that_is_near_the_bound_between_its_rounds_is_reported(tmp_path: Path) -> None:
    for seed in (1, 2):
        made_run(tmp_path / f"r{seed}", "ripu", seed, 0.6)
        made_run(tmp_path / f"a{seed}", "ripu", seed, 0.6, "all", data__target_labels="all")
    statistics = GroupStatistics(groups_of(tmp_path)[0])
    part = (0.57 - 0.2) / (0.6 - 0.2)
    headline, _, crossing, *_, last = recommend(statistics)
    queried = 100 * share(statistics.levels[0][0])
    assert f"label {queried:.2f}% of the pool: the smallest budget that was run and reaches 95%" in headline
    assert crossing.startswith(f"Its curve keeps 95% of the bound from {queried * part:.2f}% on, between its rounds;")
    assert last == "Not every method of this budget has 3 seeds (the fewest: 2): a difference may be chance."


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    sweep(tmp_path, (1,))
    (group,) = groups_of(tmp_path)
    assert recommend(GroupStatistics(group))[0].startswith("One seed is no basis for a choice")
    assert any(line.startswith("fewer than 3 seeds") and "ripu (1)" in line for line in group.cautions)
    assert summary(GroupStatistics(group)).rows[1][7] == "one seed: cannot be tested"


@pytest.mark.parametrize(
    "changes",
    [
        {"network__width": 16},
        {"schedule__steps": 60},
        {"data__target": {"root": "/data", "length": 3}},
        {"protocol": {"data": "cd" * 32}},
        {"protocol": {"inference": {"title": "mirrored"}}},
    ],
)
def test_what_cannot_be_compared_is_in_groups_of_its_own(tmp_path: Path, changes: dict) -> None:
    made_run(tmp_path / "a", seed=1)
    made_run(tmp_path / "b", seed=2, **changes)
    made_run(tmp_path / "c", seed=3)
    groups = groups_of(tmp_path)
    assert [method.seeds for group in groups for method in group.methods] == [[1, 3], [2]]


def test_other_settings_make_other_methods_under_names_that_tell_them(tmp_path: Path) -> None:
    for seed in (1, 2):
        made_run(tmp_path / f"a{seed}", seed=seed)
        made_run(tmp_path / f"b{seed}", seed=seed, strategy__radius=4)
        made_run(tmp_path / f"c{seed}", seed=seed, strategy__radius=4, budget__ratio=0.2)
    (group,) = groups_of(tmp_path)
    assert [(method.label, method.family, method.seeds) for method in group.methods] == [
        ("ripu (radius 1)", "ripu (radius 1)", [1, 2]),
        ("ripu (radius 4), ratio 0.1, 2 rounds", "ripu (radius 4)", [1, 2]),
        ("ripu (radius 4), ratio 0.2, 2 rounds", "ripu (radius 4)", [1, 2]),
    ]
    assert len(GroupStatistics(group).levels) == 2


def test_unfinished_runs_are_left_out_and_repeats_are_reported(tmp_path: Path) -> None:
    made_run(tmp_path / "a", seed=1, miou=0.5)
    made_run(tmp_path / "b", seed=2, miou=0.3, kind="unfinished")
    made_run(tmp_path / "c", seed=1, miou=0.9)
    (group,) = groups_of(tmp_path)
    assert [run.result.seed for run in group.unfinished] == [2]
    assert final(group.methods[0]) == (0.5, None, 1)
    assert "1 more of the same config and seed are left out" in group.cautions


def test_missing_and_damaged_files_are_reported_and_the_rest_is_used(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "a")
    (folder / "ledger.json").write_text("{")
    (folder / "config.yaml").unlink()
    (folder / "rounds.csv").write_text("round,share,miou\n0,0.1,nonsense\n")
    (folder / "labels" / "manifest.json").write_bytes(b"\xff")
    (run,) = [read_run(entry) for entry in read_results([tmp_path])]
    assert (run.curve, run.ledger, run.config, run.labels) == ([], None, {}, None)
    assert [line.split(":")[0].rpartition("/")[2].split(" ")[0] for line in run.problems] == [
        "rounds.csv",
        "ledger.json",
        "config.yaml",
        "manifest.json",
    ]
    (group,) = group_runs([run])
    assert any("have no config" in line for line in group.cautions)
    assert final(group.methods[0]).value == 0.5
    assert recommend(GroupStatistics(group))


@pytest.mark.parametrize(
    "text",
    [
        "round,share,miou,iou/road,iou/sky,iou/tree\n0,2,0,0,0,0\n",
        "round,share,miou,iou/road,iou/sky,iou/tree\n1,0,0,0,0,0\n",
        "round,share,miou,iou/road,iou/sky,iou/tree\n0,0.5,0,0,0,0\n1,0.4,0,0,0,0\n",
        "round,share,miou,iou/road,iou/tree\n0,0,0,0,0\n",
        "round,share,miou,iou/road,iou/sky,iou/tree\n0,0\n",
        "round,share,miou,iou/road,iou/sky,iou/tree\n0,0,inf,0,0,0\n",
    ],
)
def test_tables_of_rounds_that_cannot_be(tmp_path: Path, text: str) -> None:
    folder = made_run(tmp_path / "a")
    (folder / "rounds.csv").write_text(text)
    (run,) = [read_run(entry) for entry in read_results([tmp_path])]
    assert run.curve == []
    assert "rounds.csv: not the table of a run's rounds" in run.problems[0]


def test_an_evaluation_joins_the_group_of_its_run(tmp_path: Path) -> None:
    """It has no config of its own, but the digest of the run's."""
    folder = made_run(tmp_path / "a" / "run", seed=1)
    made_run(tmp_path / "b", seed=2)
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / "result.json").write_bytes((folder / "result.json").read_bytes())
    (group,) = groups_of(tmp_path)
    (method,) = group.methods
    assert [run.folder for run in method.runs] == [folder, tmp_path / "b"]  # the one with curves
