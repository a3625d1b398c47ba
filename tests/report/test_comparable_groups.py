"""Which runs are averaged, which are compared, and which cautions are given."""

import csv
import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from run_folders import made_run
from tiny_run import CLASSES

from ripu_lightning.report.data_record import SetRecord, write_data_record
from ripu_lightning.report.page.comparable_groups import Group, differences, group_runs
from ripu_lightning.report.page.group_statistics import GroupStatistics, curve, final, share
from ripu_lightning.report.page.group_tables import all_runs, summary
from ripu_lightning.report.page.recommendation import recommend
from ripu_lightning.report.page.run_folder import read_run
from ripu_lightning.report.results_by_protocol import print_results, read_results, write_results


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


def of_interval(interval: int, **changes: object) -> dict:
    return {"schedule__first_round": 2, "schedule__interval": interval, **changes}


def test_a_bound_is_in_every_group_that_it_agrees_with(tmp_path: Path) -> None:
    """Keys of rounds change nothing without rounds, and those of scoring and strategy neither."""
    for seed in (1, 2):
        made_run(tmp_path / f"a{seed}", seed=seed, **of_interval(2))
        made_run(tmp_path / f"b{seed}", seed=seed, **of_interval(3))
        bound = {"data__target_labels": "all", "budget__rounds": 0, "scoring": {"window": [seed, 3]}}
        bound |= {"strategy__radius": seed, "parity": {"eps": seed}}
        made_run(tmp_path / f"c{seed}", "random", seed, 0.6, "all", **of_interval(5 + seed, **bound))
        made_run(tmp_path / f"d{seed}", "random", seed, 0.2, "none", **of_interval(8, budget__rounds=0))
    groups = groups_of(tmp_path)
    assert [[(method.label, method.seeds) for method in group.methods] for group in groups] == [
        [("ripu", [1, 2]), ("all labels", [1, 2]), ("source only", [1, 2])]
    ] * 2
    assert differences(groups) == ["schedule.interval"]
    assert [group.common["schedule.interval"] for group in groups] == ["2", "3"]


def test_bounds_by_themselves_are_one_group(tmp_path: Path) -> None:
    for seed in (1, 2):
        made_run(tmp_path / f"c{seed}", "random", seed, 0.6, "all", **of_interval(seed))
    (group,) = groups_of(tmp_path)
    assert [method.seeds for method in group.methods] == [[1, 2]]


def test_an_interval_means_nothing_for_one_round(tmp_path: Path) -> None:
    made_run(tmp_path / "a", seed=1, **of_interval(2))
    one = {"rounds": 1, "rounds_done": 1}
    for seed in (1, 2):
        folder = made_run(tmp_path / f"b{seed}", seed=seed, **of_interval(7 + seed))
        path = folder / "result.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "budget": {**content["budget"], **one}}))
    (group,) = groups_of(tmp_path)
    assert [method.seeds for method in group.methods] == [[1, 2], [1]]


def test_terms_of_weight_zero_make_no_other_method(tmp_path: Path) -> None:
    for seed, (weight, threshold) in enumerate([(0.0, 0.1), (0, 0.2), (0.0, 0.3), (1.0, 0.1)]):
        loss = {"weights": {"source": 1.0, "negative": weight}, "terms": {"negative": {"threshold": threshold}}}
        made_run(tmp_path / str(seed), seed=seed, loss=loss)
    (group,) = groups_of(tmp_path)
    assert [method.seeds for method in group.methods] == [[0, 1, 2], [3]]


@pytest.mark.parametrize("name", ["source", "target"])
def test_runs_on_other_pictures_are_never_averaged(tmp_path: Path, name: str) -> None:
    data = {"source": {"a.png": "0a"}, "target": {"b.png": "0b"}}
    for seed in (1, 2):
        made_run(tmp_path / f"a{seed}", seed=seed, data=data)
    made_run(tmp_path / "b", seed=3, data={**data, name: {"a.png": "0c"}})
    groups = groups_of(tmp_path)
    assert [method.seeds for group in groups for method in group.methods] == [[1, 2], [3]]
    assert differences(groups) == [f"data.{name}.content"]


def test_other_labels_of_the_pool_are_another_method(tmp_path: Path) -> None:
    for seed in (1, 2):
        folder = made_run(tmp_path / str(seed), seed=seed)
        record = {"target": SetRecord(CLASSES, {"a": "0"}, {"a": str(seed)})}
        write_data_record(record, folder)
    (group,) = groups_of(tmp_path)
    assert [method.seeds for method in group.methods] == [[1], [2]]
    assert all(method.label.startswith("ripu (labels ") for method in group.methods)


def test_where_a_class_map_was_read_from_makes_no_other_group(tmp_path: Path) -> None:
    for seed, name in enumerate(["classes.yaml", "../classes.yaml", "built_in"]):
        made_run(tmp_path / str(seed), seed=seed, data__target={"root": "x", "classes": name})
    (group,) = groups_of(tmp_path)
    assert [method.seeds for method in group.methods] == [[0, 1, 2]]


def test_an_evaluation_given_later_joins_the_runs_that_had_it(tmp_path: Path) -> None:
    """What was evaluated is in the protocol; without a digest of it, the config decides."""
    for seed, evaluated in enumerate([{"split": "val"}, {"split": "val", "x": 1}, None]):
        made_run(tmp_path / str(seed), seed=seed, data__target_eval=evaluated)
    (group,) = groups_of(tmp_path)
    assert [method.seeds for method in group.methods] == [[0, 1, 2]]
    for seed, evaluated in enumerate([{"split": "val"}, {"split": "test"}], start=3):
        made_run(tmp_path / str(seed), seed=seed, data__target_eval=evaluated, protocol={"data": None})
    assert [method.seeds for group in groups_of(tmp_path) for method in group.methods] == [[0, 1, 2], [3], [4]]


def without_truth(folder: Path, name: str) -> None:
    path = folder / "result.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "iou": {**content["iou"], name: None}}))


def test_means_are_over_the_same_classes(tmp_path: Path) -> None:
    folders = [made_run(tmp_path / str(seed), seed=seed) for seed in (1, 2, 3)]
    for folder in folders[:2]:
        without_truth(folder, "tree")
    groups = groups_of(tmp_path)
    assert [method.seeds for group in groups for method in group.methods] == [[1, 2], [3]]
    assert differences(groups) == ["classes without truth"]
    assert "no pixel of the evaluation data is of tree: no mean counts these classes" in groups[0].cautions
    assert not any("no pixel" in line for line in groups[1].cautions)
    console = Console(file=StringIO(), width=200)
    print_results(read_results(folders[:2]), console)
    assert "without truth in the evaluation data, so in no mean: tree" in console.file.getvalue()


def test_runs_without_an_evaluation_are_listed_and_unknown(tmp_path: Path) -> None:
    folders = [made_run(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    empty = {"protocol": None, "miou": None, "pixel_accuracy": None, "class_accuracy": None, "iou": {}}
    path = folders[1] / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **empty}))
    (folders[1] / "rounds.csv").write_text("round,share,miou\n0,0,\n1,0.1,\n2,0.2,\n")
    results = read_results([tmp_path])
    groups = group_runs([read_run(entry) for entry in results])
    assert [(len(group.methods), len(group.unfinished)) for group in groups] == [(1, 0), (0, 1)]
    assert recommend(GroupStatistics(groups[1])) == [
        "No finished run of this group has queries: there is no strategy to choose."
    ]
    assert all_runs([groups[1].unfinished[0]]).texts()[0][3:7] == ["no mIoU", "2", "2.81", "–"]
    console = Console(file=StringIO(), width=200)
    print_results(results, console)
    printed = console.file.getvalue()
    assert "P2: nothing was evaluated, so mIoU is unknown" in printed
    write_results(results, tmp_path / "results.csv")
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [(row["miou"], row["images"]) for row in rows] == [("0.5", "2"), ("", "")]


def test_a_curve_of_another_run_is_left_out(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "a")
    other = made_run(tmp_path / "b", miou=0.6)
    shutil.copy(other / "rounds.csv", folder)
    (run,) = [read_run(entry) for entry in read_results([folder])]
    assert run.curve == []
    assert "rounds.csv: ends with another mIoU than" in run.problems[0]
