"""``ripu-train`` with W&B and MLflow: what they hold afterwards, and the error of a user who is not logged in."""

import base64
import csv
import hashlib
import json
import os
import pty
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from in_process import call_main
from test_train_command import SCRIPTS, SMALL

import forked
from ripu_lightning.cli.compose import conf_dir
from ripu_lightning.cli.train import main
from ripu_lightning.labels import LabelStore
from ripu_lightning.report.result import code_version
from ripu_lightning.training.history import RoundRecord, summary
from wandb_records import records, rows, steps

SWEEPS = Path(__file__).parents[2] / "sweeps"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT", "WANDB_MODE"):
        monkeypatch.setenv(name, "")  # so that what the run sets is undone
        monkeypatch.delenv(name)


def only(found: list[object], kind: str) -> list[object]:
    return [getattr(record, kind) for record in found if record.HasField(kind)]


def train(folder: Path, *overrides: str, mode: str = "offline", **environment: str) -> None:
    import wandb  # takes seconds, which only the worker that runs these tests spends

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", mode)
        patch.setenv("WANDB_SILENT", "true")
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        wandb.teardown()  # or it would remember the environment of the run before
        try:
            call_main(main, *SMALL, "output=run", "trainer.enable_progress_bar=false", *overrides)
        finally:
            wandb.teardown()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run with W&B, resumed once it was complete; and the records of both."""
    folder = tmp_path_factory.mktemp("job")
    train(folder, "logger=wandb", "logger.wandb.tags=[mine]", RIPU_SWEEP="sweep_12345678")
    found = records(folder / "run")
    (first,) = (folder / "run" / "wandb").glob("offline-run-*")
    (folder / "first").mkdir()
    first.rename(folder / "first" / first.name)
    (folder / "run" / "complete").unlink()  # or nothing would be started
    train(folder, "logger=wandb", "logger.wandb.tags=[mine]", RIPU_SWEEP="sweep_12345678")
    return SimpleNamespace(folder=folder / "run", found=found, first=folder / "first", again=records(folder / "run"))


def test_a_run_is_grouped_named_and_tagged(run: SimpleNamespace) -> None:
    started = only(run.found, "run")[0]
    assert started.run_group == "sweep_12345678"
    assert started.display_name == f"{run.folder.parent.name}/run"
    assert sorted(started.tags) == ["mine", "ratio=0.022", "ripu"]
    assert [record.exit_code for record in only(run.found, "exit")] == [0]


def test_a_run_that_resumes_is_the_same_run(run: SimpleNamespace) -> None:
    ids = [only(found, "run")[0].run_id for found in (run.found, run.again)]
    assert ids == [(run.folder / "wandb_id").read_text().strip()] * 2


def test_the_config_and_the_code_are_there(run: SimpleNamespace) -> None:
    items = [item for record in only(run.found, "config") for item in record.update]
    config = {item.key: json.loads(item.value_json) for item in items if item.key}
    expected = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert {key: config[key] for key in expected} == expected
    assert config["code"] == code_version()


def test_figures_agree_with_the_files_of_the_run(run: SimpleNamespace) -> None:
    with (run.folder / "rounds.csv").open() as file:
        rounds = list(csv.DictReader(file))
    found = [row for row in rows(run.first) if "miou" in row]
    assert [row["active/round"] for row in found] == [0, 1, 2]
    for name in ("pixels", "share", "miou"):
        expected = [float(row[name]) for row in rounds]
        assert [row[name] for row in found] == [row[f"active/{name}"] for row in found] == expected
    assert [row["best_miou"] for row in found][-1] == max(float(row["miou"]) for row in rounds)
    assert steps(run.first)["active/by_pixels/miou"] == "active/pixels"
    (last,) = [row for row in rows(run.first) if row.get("tables/iou.nrows") == 3]
    (path,) = run.first.rglob(Path(last["tables/iou.path"]).name)
    table = json.loads(path.read_text())
    assert table["columns"][:3] == ["round", "pixels", "miou"]
    for row, expected in zip(table["data"], rounds, strict=True):
        assert row[1] == int(expected["pixels"])
        assert row[3] == pytest.approx(float(expected[table["columns"][3]]))


def test_the_confusion_matrix_gives_the_result(run: SimpleNamespace) -> None:
    last = [row for row in rows(run.first) if "confusion/counts.path" in row][-1]
    (path,) = run.first.rglob(Path(last["confusion/counts.path"]).name)
    table, result = json.loads(path.read_text()), json.loads((run.folder / "result.json").read_text())
    names = [name.removeprefix("predicted/") for name in table["columns"][1:]]
    counts = [row[1:] for row in table["data"]]
    assert names == [row[0] for row in table["data"]] == list(result["iou"])
    for index, name in enumerate(names):
        union = sum(counts[index]) + sum(row[index] for row in counts) - counts[index][index]
        assert result["iou"][name] == (pytest.approx(counts[index][index] / union) if sum(counts[index]) else None)
    assert [row["active/round"] for row in rows(run.first) if "confusion/matrix.filenames" in row] == [0, 1, 2]


def test_labels_and_the_best_checkpoint_are_artifacts(run: SimpleNamespace) -> None:
    artifacts, store = only(run.found, "artifact"), LabelStore.open(run.folder / "labels")
    labels = [artifact for artifact in artifacts if artifact.type == "labels"]
    assert [sorted(artifact.aliases) for artifact in labels] == [["latest", "round-1"], ["latest", "round-2"]]
    about = [json.loads(artifact.metadata) for artifact in labels]
    assert [each["sha256"] for each in about] == [entry.sha256 for entry in store.rounds]
    assert [each["before"] for each in about] == [None, about[0]["sha256"]]
    assert [each["pixels"] for each in about] == [store.rounds[0].pixels, store.pixels]
    contents = {item.path: item.digest for item in labels[1].manifest.contents}
    assert contents == {path.name: md5(path) for path in (run.folder / "labels").iterdir() if path.name != "lock"}
    with (run.folder / "rounds.csv").open() as file:
        mious = [float(row["miou"]) for row in csv.DictReader(file)]
    models = [artifact for artifact in artifacts if artifact.type == "model"]
    best = [number for number, miou in enumerate(mious) if miou >= max(mious[: number + 1])]
    assert [json.loads(artifact.metadata)["round"] for artifact in models] == best
    assert all("best" in artifact.aliases for artifact in models)
    if best[-1] == 2:
        assert models[-1].manifest.contents[0].digest == md5(run.folder / "checkpoints" / "last.ckpt")


def md5(path: Path) -> str:
    return base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode()


def test_a_run_that_fails_is_marked_so(tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_text("no checkpoint")
    with pytest.raises(SystemExit):
        train(tmp_path, "logger=wandb", "initial=bad.ckpt")
    assert [record.exit_code for record in only(records(tmp_path), "exit")] == [1]


def test_disabled_leaves_nothing(tmp_path: Path) -> None:
    train(tmp_path, "logger=wandb", "pictures=1", "budget.rounds=1", mode="disabled")
    assert (tmp_path / "run" / "result.json").is_file()
    assert not list(tmp_path.rglob("*.wandb"))


def test_an_agents_id_holds(tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_text("no checkpoint")
    with pytest.raises(SystemExit):
        train(tmp_path, "logger=wandb", "initial=bad.ckpt", WANDB_RUN_ID="fromagent")
    assert only(records(tmp_path), "run")[0].run_id == "fromagent"
    assert not (tmp_path / "run" / "wandb_id").exists()


def test_a_foreign_id_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "wandb_id").write_text("../../elsewhere\n")
    with pytest.raises(SystemExit):
        train(tmp_path, "logger=wandb")
    assert "wandb_id: holds no run's id; remove it" in capsys.readouterr().err


def test_not_logged_in_is_reported_without_a_prompt(tmp_path: Path) -> None:
    """With a terminal before it, where W&B would ask what to do."""
    ours, theirs = pty.openpty()
    settings = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    settings |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    command = [str(SCRIPTS / "ripu-train"), *SMALL, "logger=wandb", "output=run"]
    done = forked.run(command, cwd=tmp_path, env=settings, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = os.read(ours, 2**16).decode()
    os.close(ours)
    assert done.returncode == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "logger=wandb: not logged in" in line
    assert "run wandb login, or add logger.wandb.offline=true" in line
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_a_server_that_does_not_answer_is_reported_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "1"}
    start = time.monotonic()
    with pytest.raises(SystemExit):
        train(tmp_path, "logger=wandb", mode="online", **server)
    assert time.monotonic() - start < 120  # and not for ever
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "logger=wandb: " in line
    assert "127.0.0.1:9" in line
    assert "logger.wandb.offline=true needs no server" in line
    assert not (tmp_path / "run").exists()


def test_a_mistake_in_the_data_leaves_no_store_of_mlflow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train(tmp_path, "logger=mlflow", "data.source_size=[0,1]")
    assert "data.source_size" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_logger_whose_package_is_not_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(SystemExit):
        train(tmp_path, f"logger={kind}")
    assert f"logger={kind}: package {kind} is not installed; run pip install 'ripu-lightning[{kind}]'" in (
        capsys.readouterr().err
    )


def test_mlflow_gets_the_same_names(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    small = ["pictures=1", "budget.rounds=1"]
    train(tmp_path, "logger=mlflow", *small)
    train(tmp_path, "logger=mlflow", *small)  # goes on in the same run
    folder = tmp_path / "run"
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("ripu_lightning").experiment_id])
    assert found.info.run_id == (folder / "mlflow_id").read_text().strip()
    assert (found.info.status, found.info.run_name) == ("FINISHED", f"{tmp_path.name}/run")
    assert found.data.params["budget/ratio"] == "0.022"
    result = json.loads((folder / "result.json").read_text())
    assert found.data.metrics["miou"] == found.data.metrics["active/miou"] == pytest.approx(result["miou"])
    pixels = [point.step for point in client.get_metric_history(found.info.run_id, "active/by_pixels/miou")]
    assert pixels == [0, LabelStore.open(folder / "labels").pixels]
    pictures = sorted(path.parent.relative_to(folder / "mlflow").as_posix() for path in folder.glob("mlflow/**/*.png"))
    kinds = {path.split("/artifacts/")[1].split("/")[0] for path in pictures}
    assert kinds == {"confusion", "pictures", "scores"}


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_sweeps_are_what_wandb_and_we_understand(path: Path) -> None:
    config = agent().load_sweep_config(str(path))
    assert config["method"] in {"grid", "bayes", "random"}
    record = RoundRecord(0, 1, 0, 0, 0, 0.0, 0.5)
    assert config["metric"]["name"] in summary([record])
    assert config["metric"]["goal"] == "maximize"
    if any(key.startswith("budget") for key in config["parameters"]):
        assert config["metric"]["name"] != "area_under_curve"  # not to be compared between budgets
    compose = SimpleNamespace(**{key: next(iter(values(about))) for key, about in config["parameters"].items()})
    overrides = expanded(config, vars(compose))[2:]
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        chosen = hydra_compose("train", overrides=overrides)
    for key, value in vars(compose).items():
        assert (chosen.strategy.name if key == "strategy" else node(chosen, key)) == value


def agent() -> ModuleType:
    """The functions by which W&B's agent reads a sweep."""
    from wandb.sdk.launch.sweeps import utils

    return utils


def node(config: object, key: str) -> object:
    for part in key.split("."):
        config = config[part]
    return config


def values(about: dict[str, object]) -> list[object]:
    return about.get("values") or [about["min"], about["max"]]


def expanded(config: dict[str, object], parameters: dict[str, object]) -> list[str]:
    """The command line as W&B's agent builds it, with its own functions."""
    command = agent().create_sweep_command(list(config["command"]))
    parts = agent().create_sweep_command_args({"args": {key: {"value": value} for key, value in parameters.items()}})
    parts |= {"env": ["/usr/bin/env"]}
    line = []
    for chunk in map(str, command):
        line += parts[chunk[2:-1]] if chunk.startswith("${") and chunk.endswith("}") else [chunk]
    return line


def test_a_line_of_a_sweep_runs(tmp_path: Path) -> None:
    config = agent().load_sweep_config(str(SWEEPS / "strategies.yaml"))
    line = expanded(config, {"strategy": "entropy", "budget.ratio": 0.05, "seed": 1})
    settings = {**os.environ, "WANDB_MODE": "offline", "WANDB_RUN_ID": "abc123", "WANDB_SWEEP_ID": "swp1"}
    small = [*SMALL, "budget.rounds=1", "pictures=1"]
    assert line[:2] == ["/usr/bin/env", "ripu-train"]
    done = forked.run([str(SCRIPTS / "ripu-train"), *line[2:], *small], cwd=tmp_path, env=settings)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "runs" / "wandb" / "abc123"
    found = records(folder)
    started = only(found, "run")[0]
    assert (started.run_id, started.sweep_id) == ("abc123", "swp1")
    assert sorted(started.tags) == ["entropy", "ratio=0.05"]
    (figure,) = {row["area_under_curve"] for row in rows(folder) if row.get("active/round") == 1 and "miou" in row}
    assert 0 < figure < 1


def test_wandb_is_left_as_it_was() -> None:
    import wandb

    assert wandb.run is None
