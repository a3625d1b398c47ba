"""The start that runs share: who shares it, and that a run which begins with it ends as one that trained it itself."""

import csv
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from in_process import call_main
from processes import SHORT
from test_train_command import SMALL

from ripu_lightning.cli import train
from ripu_lightning.cli.compose import conf_dir
from ripu_lightning.data import Streets
from ripu_lightning.experiment import warmup_key as warmup
from ripu_lightning.experiment.build import build, build_module, plain
from ripu_lightning.experiment.warmup_key import warmup_key
from ripu_lightning.labels import LabelStore
from ripu_lightning.networks.weights import read_entries
from ripu_lightning.training.shared_warmup import KEPT, SharedWarmup

RUN = [*SMALL, *SHORT, "trainer.enable_progress_bar=false", "network.dropout=0.1", "loss=self_training"]
RUN += ["average_decay=0.9", "batchnorm=target"]
REPORTED = "starts from step 7, which another run has trained"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RIPU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "starts"


def run(name: str, *options: str) -> Path:
    call_main(train.main, *RUN, *options, f"output={name}")
    return Path(name)


def only_start(cache: Path) -> Path:
    (start,) = cache.glob("*.ckpt")
    return start


def differences(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """Where two checkpoints are not the same, bit by bit."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() | theirs.keys():
            yield from differences(ours.get(key), theirs.get(key), f"{where}.{key}")
    elif isinstance(ours, (list, tuple)) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(one, other, f"{where}.{number}")
    elif isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
            yield where
    elif ours != theirs and not (ours != ours and theirs != theirs):
        yield where


def answers(folder: Path) -> list[tuple[Any, ...]]:
    store = LabelStore.open(folder / "labels")
    found = [store.answers(image_id, number) for image_id in Streets("target", "train", 5).ids for number in (1, 2)]
    return [(each.centres.tolist(), each.values.tolist(), each.scores.tolist()) for each in found if each is not None]


def assert_same(ours: Path, theirs: Path) -> None:
    """Same weights, optimiser, records and labels; paths, and the times of the rounds, are each run's own."""
    own = {".hyper_parameters.config.output", ".hyper_parameters.config.logger.csv.save_dir"}
    own |= {".hyper_parameters.config.data.cache", *(f".callbacks.ActiveLearningLoop.rounds.{n}" for n in (0, 1))}
    one, other = (read_entries(run / "checkpoints" / "last.ckpt", "checkpoint") for run in (ours, theirs))
    assert set(differences(one, other)) <= own
    assert (ours / "rounds.csv").read_text() == (theirs / "rounds.csv").read_text()
    assert answers(ours) == answers(theirs)
    assert len(answers(ours)) >= 5


@contextmanager
def locked(start: Path) -> Iterator[None]:
    """As another run that trains it."""
    with start.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_run_from_a_shared_start_ends_as_one_that_trained_it_itself(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = run("own", "strategy=entropy", "budget.ratio=0.04", "data.cache=null")
    assert not cache.exists()
    run("first", "strategy=ripu")
    assert REPORTED not in capsys.readouterr().out
    start = only_start(cache)
    content = read_entries(start, "start")
    assert (content["global_step"], set(content) & {"callbacks", "hyper_parameters"}) == (7, set())

    shared = run("shared", "strategy=entropy", "budget.ratio=0.04")
    assert f"{REPORTED}: {start}" in capsys.readouterr().out
    assert_same(own, shared)
    steps = [int(row["step"]) for row in csv.DictReader((shared / "metrics/version_0/metrics.csv").open())]
    assert min(steps) >= 7  # it did not train what comes before

    start.write_bytes(start.read_bytes()[:-5000])
    with pytest.warns(UserWarning, match="trained again"):
        anew = run("anew", "strategy=entropy", "budget.ratio=0.04")
    assert REPORTED not in capsys.readouterr().out
    assert_same(own, anew)
    assert set(differences(read_entries(start, "start"), content)) == set()  # whole again


def train_elsewhere(start: Path, other: threading.Event, result: str | None) -> None:
    """Hold the lock until the other run has come to it, and leave the start or nothing."""
    with locked(start):
        other.wait()
        time.sleep(0.5)
        if result is not None:
            shutil.copy(result, start)


def test_a_run_waits_for_the_one_that_trains_the_start_and_trains_itself_where_that_one_dies(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("first")
    start, arrived, wait = only_start(cache), threading.Event(), SharedWarmup._wait
    monkeypatch.setattr(SharedWarmup, "_wait", lambda self: (arrived.set(), wait(self))[1])
    aside = shutil.copy(start, "aside")
    for name, finishes in (("second", True), ("third", False)):
        start.unlink()
        arrived.clear()
        thread = threading.Thread(target=train_elsewhere, args=(start, arrived, aside if finishes else None))
        thread.start()
        run(name)
        thread.join()
        said = capsys.readouterr().out
        assert "waiting for the warm-up that another run trains" in said
        assert (REPORTED in said) == finishes
        assert start.is_file()


def test_a_run_that_a_signal_stops_leaves_the_lock_to_others(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails in its first stage; here, so that the process goes on and only the run can have let go."""

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ripu_lightning.training.module.SegmentationModule.training_step", fail)
        with pytest.raises(SystemExit):
            run("first")
    (lock,) = cache.glob("*.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not list(cache.glob("*.ckpt"))


def test_a_mistake_leaves_nothing_whether_there_is_a_start_or_not(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = "network.dropout=0"
    for trained in (False, True):
        for mistake, words in (("strategy=bald", "no dropout layer"), ("+trainer.min_epochs=1", "trainer.min_epochs")):
            with pytest.raises(SystemExit):
                run("corrected", plain, mistake)
            assert words in capsys.readouterr().err
            assert not Path("corrected").exists()
        if not trained:
            run("first", plain)
    run("corrected", plain, "strategy=random")
    assert REPORTED in capsys.readouterr().out
    assert Path("corrected/config.yaml").is_file()


def key(*changes: str) -> str | None:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = hydra.compose("train", overrides=[*SMALL, "output=x", *changes])
    torch.manual_seed(config.seed)
    datamodule = build(config, "data")
    return warmup_key(plain(config), build_module(config, datamodule), datamodule)


@pytest.mark.parametrize(
    "change",
    [
        "strategy=bald",
        "region_type=superpixel",
        "selection_rule=class_balanced",
        "budget.ratio=0.5",
        "budget=clicks",
        "budget.rounds=1",
        "schedule.steps=100",
        "schedule.interval=2",
        "annotator=files",
        "logger=tensorboard",
        "pictures=3",
        "name=other",
        "output=other",
        "data.num_workers=2",
        "data.cache=null",
        "trainer.enable_progress_bar=false",
        "rank_patience=5",
    ],
)
def test_what_comes_after_the_first_stage_leaves_the_key_as_it_is(change: str) -> None:
    assert key() == key(change) is not None


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "network.width=16",
        "network.dropout=0.1",
        "loss=cross_entropy",
        "loss.weights.local_consistency=0.2",
        "optimizer.lr=0.2",
        "optimizer.norm_decay=false",
        "optimizer.layer_decay=0.5",
        "batchnorm=frozen",
        "batchnorm=target",
        "average_decay=0.9",
        "lr_schedule=cosine",
        "lr_schedule.power=1.0",
        "lr_schedule.warmup_steps=2",
        "schedule.first_round=3",
        "schedule.horizon=100",
        "data.batch_size=1",
        "data.augment=[]",
        "data.source.length=5",
        "data.target.length=6",
        "data.target.seed=1",
        "data.source_size=[32,48]",
        "parity=official",
        "compile=eager",
        "trainer.precision=bf16-mixed",
        "trainer.devices=2",
        "trainer.gradient_clip_val=1.0",
        "trainer.accumulate_grad_batches=2",
    ],
)
def test_what_the_first_stage_depends_on_changes_the_key(change: str) -> None:
    assert key() != key(change) is not None


def test_weights_code_and_machine_change_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = key()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "manual_seed", lambda seed: torch.random.default_generator.manual_seed(seed + 1))
        assert key() != ours
    for name, value in (("_code", ["other"]), ("_machine", ["other"])):
        with monkeypatch.context() as patch:
            patch.setattr(warmup, name, lambda value=value: value)
            assert key() != ours
    with monkeypatch.context() as patch:
        patch.setattr(Streets, "fingerprint", lambda _: None)
        assert key() is None
    assert key() == ours


def test_jobs_that_go_through_many_seeds_find_the_start_of_each(tmp_path: Path) -> None:
    seeds = [tmp_path / f"{seed}.ckpt" for seed in range(50)]
    for path in seeds * 2:
        path.touch()
        SharedWarmup(tmp_path, path.stem, 1, tmp_path / "last.ckpt")._remove_old()
        assert set(tmp_path.iterdir()) >= set(seeds[: seeds.index(path) + 1])


def test_starts_that_were_not_used_for_long_are_removed(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        for end in ("ckpt", "lock"):
            path = tmp_path / f"{number:02}.{end}"
            path.touch()
            os.utime(path, (1000 - number, 1000 - number))
    SharedWarmup(tmp_path, "00", 1, tmp_path / "last.ckpt")._remove_old()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{number:02}.{end}" for number in range(KEPT) for end in ("ckpt", "lock")}
