"""The result file: its content, that it is complete or missing, and which parts of a config count."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from ripu_lightning.errors import UserError
from ripu_lightning.report import result as module
from ripu_lightning.report.result import Result, decisive, make_result, read_result

CONFIG = {
    "name": "demo",
    "seed": 3,
    "output": "runs/a",
    "trainer": {"devices": 1, "precision": "32-true", "log_every_n_steps": 10},
    "strategy": {"name": "ripu", "radius": 1},
    "data": {"target_size": None, "num_workers": 0, "target_labels": "queried"},
}
PROTOCOL = {
    "classes": ["road", "bus"],
    "subsets": {"1": ["road"]},
    "images": 2,
    "data": "ab" * 32,
    "input_size": [64, 96],
    "inference": {"title": "plain"},
    "precision": "32-true",
}
LABELLING = {
    "strategy": "ripu",
    "budget": {
        "unit": "ratio",
        "amount": 0.05,
        "per": "image",
        "rounds": 2,
        "rounds_done": 2,
        "pixels": 123,
        "share": 0.049,
    },
}
FIGURES = {
    "miou": 0.5,
    "miou_1": 0.75,
    "pixel_accuracy": 0.9,
    "class_accuracy": 0.8,
    "iou/road": 0.5,
    "iou/bus": math.nan,
}


def made(**changes: object) -> Result:
    return make_result({**CONFIG, **changes}, LABELLING, PROTOCOL, FIGURES)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    made().write(tmp_path / "new" / "run")
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["result.json"]
    assert read_result(tmp_path / "new" / "run" / "result.json") == made()
    content = json.loads((tmp_path / "new" / "run" / "result.json").read_text())
    assert (content["name"], content["seed"], content["strategy"]) == ("demo", 3, "ripu")
    assert (content["miou"], content["subsets"], content["iou"]) == (0.5, {"1": 0.75}, {"road": 0.5, "bus": None})
    assert (content["pixel_accuracy"], content["class_accuracy"]) == (0.9, 0.8)
    assert content["protocol"] == PROTOCOL
    assert content["budget"] == LABELLING["budget"]


def test_a_new_result_replaces_the_old_one_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made().write(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module.json, "dumps", lambda *_, **__: "\ud800")  # cannot be encoded: fails half-way
        with pytest.raises(UnicodeEncodeError):
            made(seed=4).write(tmp_path)
    assert read_result(tmp_path / "result.json").seed == 3
    made(seed=4).write(tmp_path)
    assert read_result(tmp_path / "result.json").seed == 4
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"name": "other", "output": "runs/b", "logger": {"csv": 1}, "pictures": 9}, True),
        ({"trainer": {**CONFIG["trainer"], "log_every_n_steps": 1}}, True),
        ({"data": {"target_size": None, "num_workers": 8, "eval_batch_size": 3, "target_labels": "queried"}}, True),
        ({"seed": 4}, False),
        ({"data": {**CONFIG["data"], "source_sampling": "class_balanced"}}, False),
        ({"strategy": {"name": "ripu", "radius": 2}}, False),
        ({"data": {"target_size": [64, 96], "num_workers": 0, "target_labels": "queried"}}, False),
        ({"more": {"key": None}}, False),
        ({"batchnorm": "joint"}, False),
        ({"average_decay": 0.9}, False),
        ({"lr_schedule": {"power": 1.0}}, False),
        ({"trainer": {**CONFIG["trainer"], "gradient_clip_val": 1.0}}, False),
        ({"trainer": {**CONFIG["trainer"], "accumulate_grad_batches": 2}}, False),
    ],
)
def test_the_configs_hash_changes_with_what_counts(changes: dict, same: bool) -> None:
    assert (made(**changes).config == made().config) == same
    assert (decisive({**CONFIG, **changes}) == decisive(CONFIG)) == same


def test_where_the_data_lie_makes_no_other_result() -> None:
    here, there = ({"data": {**CONFIG["data"], "target": {"root": root, "split": "train"}}} for root in "ab")
    assert made(**here).config == made(**there).config
    assert decisive({**CONFIG, **here}) != decisive({**CONFIG, **there})  # but a run resumes with the data it has
    assert made(data={**CONFIG["data"], "target": {"root": "a", "split": "all"}}).config != made(**here).config


@pytest.mark.parametrize("change", [{"devices": 8}, {"precision": "bf16-mixed"}])
def test_what_may_change_when_a_run_resumes_is_recorded(change: dict) -> None:
    trainer = {**CONFIG["trainer"], **change}
    assert decisive({**CONFIG, "trainer": trainer}) == decisive(CONFIG)
    assert made(trainer=trainer).config != made().config


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *settings, "-C", folder, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_code_version_of_a_checkout_and_of_a_package_in_a_foreign_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "package" / "result.py"
    ours.parent.mkdir()
    ours.write_text("first")
    monkeypatch.setattr(module, "__file__", str(ours))
    commit = module._commit
    assert commit() is None  # in no checkout
    git(tmp_path, "init", "-q")
    (tmp_path / "other.txt").write_text("theirs")
    git(tmp_path, "add", "other.txt")
    git(tmp_path, "commit", "-q", "-m", "theirs")
    assert commit() is None  # in one that does not hold it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "ours")
    git(tmp_path, "tag", "-a", "v1", "-m", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit() == head
    ours.write_text("second")
    assert commit() == f"{head}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None  # no git


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"name": "x"}',
        "\x00",
        "[" * 100_000,
        json.dumps({**vars(made()), "protocol": {"classes": []}}),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json: not a complete result file"):
        read_result(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"none\.json: No such file"):
        read_result(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("miou", "high"),
        ("iou", None),
        ("iou", {"road": 0.5}),
        ("subsets", {}),
        ("code", None),
        ("protocol", {**PROTOCOL, "inference": "plain"}),
        ("protocol", {**PROTOCOL, "classes": None}),
        ("protocol", {**PROTOCOL, "input_size": 3}),
        ("budget", {**LABELLING["budget"], "share": "all"}),
        ("budget", {**LABELLING["budget"], "amount": None}),
        ("budget", {**LABELLING["budget"], "per": {}}),
        ("protocol", {**PROTOCOL, "data": 3}),
        ("protocol", {**PROTOCOL, "input_size": {"a": 1, "b": 2}}),
        ("protocol", {**PROTOCOL, "images": "x"}),
        ("protocol", {**PROTOCOL, "precision": {}}),
        ("miou", 7),
        ("miou", math.nan),
        ("seed", [1]),
    ],
)
def test_parts_of_the_wrong_kind_are_refused(tmp_path: Path, part: str, value: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**vars(made()), part: value}))
    with pytest.raises(UserError, match=r"a\.json: not a complete result file"):
        read_result(tmp_path / "a.json")


def test_the_command_needs_neither_torch_nor_the_pages_packages() -> None:
    code = "import sys, ripu_lightning.cli.report; sys.exit(bool({'torch', 'jinja2', 'plotly'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
