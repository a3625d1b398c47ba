"""A sweep: its folder, its jobs, what is skipped, what is shown. Its jobs are stand-ins, whose runs take no time."""

import json
import math
import os
import socket
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from in_process import call_main
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from ripu_lightning.cli import sweep_job, train
from ripu_lightning.cli.sweep import LONGEST, job_name
from ripu_lightning.cli.sweep_job import Job, read_job
from ripu_lightning.cli.sweep_table import Watch
from ripu_lightning.report.result import make_result

NO_BUDGET = {"unit": None, "amount": None, "per": None, "rounds": 0, "rounds_done": 0, "pixels": 0, "share": 0.0}
PROTOCOL = {
    "classes": ["road"],
    "subsets": {},
    "images": 1,
    "data": None,
    "input_size": None,
    "inference": {"title": ""},
    "precision": "32-true",
}
ROUNDS = "round,step,queries,pixels,void,share,miou,iou/road\n0,200,0,0,0,0.0,0.25,0.25\n1,260,5,40,0,0.01,0.5,0.5\n"


class Runs:
    """Stands in for the processes of jobs: seed 7 waits, 8 is stopped, 9 fails, others reach an mIoU of SEED / 10."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[list[str]] = []
        self.configs: list[DictConfig] = []
        monkeypatch.setattr(sweep_job, "start_child", self.start)
        self.real = sweep_job.run_job
        monkeypatch.setattr(sweep_job, "run_job", self.run_job)

    def run_job(self, config: DictConfig, environment: dict[str, str]) -> float | None:
        self.configs.append(config)
        return self.real(config, environment)

    def start(self, overrides: list[str], environment: dict[str, str], log: BinaryIO) -> int:
        self.started.append(overrides)
        seed = self.configs[-1].seed
        folder = Path(next(item[15:-1] for item in overrides if item.startswith("hydra.run.dir=")))
        assert environment["RIPU_SWEEP"] == folder.parent.name
        assert json.loads((folder / "job.json").read_text())["state"] == "running"
        log.write(f"\x1b[31m 1%\r 50%\r100%\x1b[0m\r\nkept\nerror: seed: {seed}\n".encode())
        if seed == 8:
            raise SystemExit(143)
        if seed in {7, 9}:
            return 3 if seed == 7 else 1
        config: Any = OmegaConf.to_container(self.configs[-1], resolve=True)
        figures = {"miou": seed / 10, "pixel_accuracy": 0.5, "class_accuracy": 0.5, "iou/road": 0.5}
        make_result(config, {"strategy": None, "budget": NO_BUDGET}, PROTOCOL, figures).write(folder)
        return 0


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    monkeypatch.chdir(tmp_path)
    return Runs(monkeypatch)


def sweep(*arguments: str) -> int:
    try:
        call_main(train.main, *arguments)
    except SystemExit as error:
        return int(str(error.code))
    return 0


def states(folder: Path) -> dict[str, str]:
    found = {path.parent.name: read_job(path.parent) for path in folder.glob("*/job.json")}
    return {name: job.state for name, job in found.items() if job is not None}


def only_sweep() -> Path:
    (folder,) = Path("runs/demo").glob("sweep_*")
    return folder


def test_the_same_line_in_any_order_is_the_same_sweep_and_more_values_are_more_jobs(runs: Runs) -> None:
    idle = ["pictures=1", "trainer.accelerator=cpu"]
    assert sweep("-m", "experiment=demo", "strategy=ripu,random", "budget.ratio=0.01,0.02", "seed=1", *idle) == 0
    folder = only_sweep()
    assert states(folder) == {
        f"budget.ratio-{ratio}+strategy-{name}": "complete" for ratio in (0.01, 0.02) for name in ("ripu", "random")
    }
    assert len(runs.started) == 4
    # Nothing that decides something is different, but for the new value.
    assert sweep("-m", "budget.ratio=0.02,0.03", "seed=1", "strategy=ripu,random", "experiment=demo") == 0
    assert only_sweep() == folder
    new = [next(item for item in overrides if item.startswith("budget")) for overrides in runs.started[4:]]
    assert new == ["budget.ratio=0.03"] * 2
    assert all("hydra.mode=RUN" in overrides and "seed=1" in overrides for overrides in runs.started)


@pytest.mark.parametrize(
    "other",
    [
        "seed=2",
        "data.source.length=50",
        "loss=cross_entropy",
        "trainer.gradient_clip_val=0.5",
        "trainer=default",
        "+trainer.limit_val_batches=1",
    ],
)
def test_what_is_fixed_and_decides_names_another_folder(runs: Runs, other: str) -> None:
    for more in ([], [other]):
        assert sweep("-m", "experiment=demo", "strategy=ripu,random", *more) == 0
    assert len(list(Path("runs/demo").iterdir())) == 2
    assert len(runs.started) == 4


def test_jobs_that_fail_or_wait_stop_no_other_and_are_started_again(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["-m", "experiment=demo", "seed=9,7,1"]
    assert sweep(*line) == 1
    said = capsys.readouterr()
    folder = only_sweep()
    assert states(folder) == {"seed-9": "failed", "seed-7": "waiting", "seed-1": "complete"}
    assert "error: 1 of 3 jobs failed" in said.err
    assert str(folder) in said.err
    printed = said.out.splitlines()
    assert printed[0] == f"sweep of 3 jobs: {folder}"
    assert sorted(text.split(",")[0] for text in printed[1:]) == [
        "seed-1: complete",
        "seed-7: waiting",
        "seed-9: failed",
    ]
    assert any(text.endswith(": seed: 9") for text in printed)
    assert sweep(*line) == 1
    assert [next(item for item in overrides if "seed=" in item) for overrides in runs.started[3:]] == [
        "seed=9",
        "seed=7",
    ]
    assert "1 complete before" in capsys.readouterr().out
    log = (folder / "seed-9" / "log.txt").read_text()
    attempt = "100%\nkept\nerror: seed: 9\n"
    assert [part.partition("\n")[2] for part in log.split("--- ")[1:]] == [attempt, attempt]


def test_a_signal_ends_the_sweep_and_the_same_line_resumes(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
        assert sweep("-m", "experiment=demo", "seed=1,8,2") == 143
    shown = capsys.readouterr().out
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is there again
    last = Text.from_ansi(shown[shown.rindex("┏") :]).plain
    assert [[word.strip() for word in row.split("│")[1:3]] for row in last.splitlines() if row.startswith("│")] == [
        ["seed-1", "complete"],
        ["seed-8", "stopped"],
        ["seed-2", "queued"],
    ]
    assert states(only_sweep()) == {"seed-1": "complete", "seed-8": "stopped"}
    assert sweep("-m", "experiment=demo", "seed=1,2") == 0
    assert states(only_sweep())["seed-2"] == "complete"
    assert len(runs.started) == 3


def test_a_complete_job_is_run_again_where_its_config_is_another(runs: Runs) -> None:
    """As after a change in a file of configs: the line is the same."""
    assert sweep("-m", "experiment=demo", "seed=1,2") == 0
    result = only_sweep() / "seed-2" / "result.json"
    result.write_text(result.read_text().replace('"config": "', '"config": "0'))
    assert sweep("-m", "experiment=demo", "seed=1,2") == 0
    assert [overrides[1] for overrides in runs.started] == ["seed=1", "seed=2", "seed=2"]


def test_a_job_that_another_sweep_is_at_is_left_alone(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("sweep/seed-1")
    folder.mkdir(parents=True)
    with sweep_job._alone(folder):
        assert sweep("-m", "experiment=demo", "seed=1,2", "hydra.sweep.dir=sweep") == 1
    assert "another sweep is at this job" in capsys.readouterr().err
    assert states(Path("sweep")) == {"seed-2": "complete"}


def test_a_ready_made_sweep_needs_no_flag_and_its_values_can_be_replaced(runs: Runs) -> None:
    assert sweep("sweep=budgets", "experiment=demo", "strategy=random,entropy", "budget.ratio=0.02") == 0
    found = set(states(only_sweep()))
    assert found == {
        f"budget.ratio-0.02+seed-{seed}+strategy-{name}" for seed in (0, 1, 2) for name in ("random", "entropy")
    }
    assert sweep("seed=0,3", "sweep=budgets", "experiment=demo", "strategy=random,entropy", "budget.ratio=0.02") == 0
    assert set(states(only_sweep())) - found == {
        f"budget.ratio-0.02+seed-3+strategy-{n}" for n in ("random", "entropy")
    }


def test_a_folder_of_the_users_own(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["hydra.sweep.dir=mine", "hydra.sweep.subdir=job_${hydra.job.num}"]
    assert sweep("-m", "experiment=demo", "seed=1,9", *own) == 1
    assert states(Path("mine")) == {"job_0": "complete", "job_1": "failed"}
    assert "job_1: failed" in capsys.readouterr().out


def test_one_folder_for_all_jobs_is_refused(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("-m", "experiment=demo", "seed=1,2", "output=mine") == 1
    assert capsys.readouterr().err.startswith("error: output: a sweep's folders are named by hydra.sweep.dir=")
    assert not list(Path().iterdir())


def test_optuna_finds_the_seed_with_the_best_miou(runs: Runs) -> None:
    line = ["sweep=optuna", "experiment=demo", "hydra.sweeper.n_trials=10"]
    line += ["optimizer.lr=0.1", "strategy.radius=1", "seed=choice(2,4,6,9)"]
    assert sweep(*line) == 1  # seed 9 fails, whenever it is tried, and stops nothing
    tried = {int(name.split("seed-")[1][0]): state for name, state in states(only_sweep()).items()}
    assert tried == {seed: "failed" if seed == 9 else "complete" for seed in tried}
    assert len(tried) >= 3
    best = OmegaConf.load(only_sweep() / "optimization_results.yaml")
    assert (best.best_params.seed, best.best_value) == (max(tried.keys() - {9}), max(tried.keys() - {9}) / 10)
    complete = [overrides for overrides in runs.started if "seed=9" not in overrides]
    assert len(complete) == len(tried) - 1  # what it tries again is read


BARE = """
import sys, hydra_plugins
hydra_plugins.__path__ = []
from ripu_lightning.cli.train import main
main()
"""


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("sweep=optuna", "hydra/sweeper=optuna: not installed; pip install 'ripu-lightning[optuna]'"),
        ("hydra/launcher=joblib", "hydra/launcher=joblib: not installed; pip install 'ripu-lightning[joblib]'"),
    ],
)
def test_an_extra_that_is_not_installed(tmp_path: Path, option: str, words: str) -> None:
    command = [sys.executable, "-c", BARE, "-m", option, "seed=1,2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (1, f"\nerror: {words}\n")
    assert not list(tmp_path.iterdir())


@given(st.lists(st.sampled_from("ab,=./[] '{}é\n"), min_size=1).map("".join), st.integers(1, 50))
def test_names_of_jobs_are_single_folders_and_differ_where_the_values_do(value: str, times: int) -> None:
    names = {job_name([f"key={value * times}{end}", "fixed=1"], ["key"]) for end in "xy"}
    assert len(names) == 2
    for name in names:
        assert name.startswith("key-")
        assert len(name.encode()) <= LONGEST + 9
        (read,) = OverridesParser.create().parse_overrides([f"checkpoint=runs/{name}/last.ckpt"])
        assert read.value() == f"runs/{name}/last.ckpt"


def test_a_name_holds_what_is_swept_whatever_the_order() -> None:
    overrides = ["seed=1", "dataset@data.source=gtav", "dataset@data.target=idd", "strategy=ripu"]
    assert job_name(overrides, ["strategy", "dataset@data.target"]) == "dataset@data.target-idd+strategy-ripu"
    assert job_name(overrides[::-1], ["seed", "strategy"]) == "seed-1+strategy-ripu"


@pytest.mark.parametrize(
    "change",
    [
        {"state": "new"},
        {"overrides": "seed=1"},
        {"started": None},
        {"error": "two\nlines"},
        {"ended": "now"},
        {"ended": math.nan},
        {"started": math.inf},
        {"steps": 10**400},
        {"steps": [1]},
    ],
)
def test_a_damaged_record_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    Job(["seed=1"], "complete", 1.0, 2.0, 0).write(tmp_path)
    assert read_job(tmp_path) == Job(["seed=1"], "complete", 1.0, 2.0, 0)
    content = json.loads((tmp_path / "job.json").read_text())
    (tmp_path / "job.json").write_text(json.dumps(content | change))
    assert read_job(tmp_path) is None
    (tmp_path / "job.json").write_text("[" * 100_000)
    assert read_job(tmp_path) is None


def test_of_a_log_what_a_terminal_would_show_is_left(tmp_path: Path) -> None:
    """Also of one long line, such as a program's data: looked at from each of its bytes, it would take for ever."""
    long = b"x" * 4_000_000
    (tmp_path / "log.txt").write_bytes(b"a\rb\r\rc\r\n\x1b[1m" + long + b"\n1%\r2%\n\rd")
    sweep_job._tidy(tmp_path / "log.txt")
    assert (tmp_path / "log.txt").read_bytes() == b"c\r\n" + long + b"\n2%\nd"


def shown(folder: Path, jobs: dict[str, Job | None], height: int = 40, count: int | None = None) -> str:
    for name, job in jobs.items():
        if job is not None:
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "rounds.csv").write_text(ROUNDS)
    console = Console(file=StringIO(), width=120, height=height, force_terminal=True, no_color=True, highlight=False)
    watch = Watch(folder, dict, count, 520, console)
    console.print(watch.table(jobs))
    return Text.from_ansi(console.file.getvalue()).plain


def test_the_table_has_a_row_a_job_and_a_bar_over_all(tmp_path: Path) -> None:
    now = time.time()
    running = Job(["seed=1"], "running", now - 65, process=os.getpid(), host=socket.gethostname(), steps=520)
    text = shown(tmp_path, {"seed=0": Job([], "complete", now - 99, now - 9), "seed=1": running, "seed=2": None})
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert [row[:5] for row in rows] == [
        ["seed=0", "complete", "1", "1.00", "50.0"],
        ["seed=1", "running", "1", "1.00", "50.0"],
        ["seed=2", "queued", "", "", ""],
    ]
    assert rows[0][5] == "1:30"
    assert rows[1][5] in {"1:05", "1:06"}
    assert "1 running, 1 queued, 1 complete" in text
    assert "50%" in text  # one whole job and half a one, of three


def test_where_not_all_rows_fit_those_that_run_or_failed_are_shown(tmp_path: Path) -> None:
    now = time.time()
    jobs: dict[str, Job | None] = {f"seed={n}": Job([], "complete", now, now) for n in range(20)}
    jobs |= {"seed=12": Job([], "running", now), "seed=17": Job([], "failed", now, now), "seed=3": None}
    text = shown(tmp_path, jobs, height=12, count=30)
    assert [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")] == [
        "seed=3",
        "seed=12",
        "seed=17",
    ]
    assert "1 running, 1 failed, 11 queued, 17 complete; 17 rows do not fit" in text
