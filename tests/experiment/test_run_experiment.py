"""``run_experiment`` as in a notebook: several runs in one process, with Hydra's global state neither read nor left."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import ripu_lightning
from ripu_lightning import compose, run_experiment
from ripu_lightning.annotation import AnswersPending
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.evaluate import evaluate
from ripu_lightning.labels import LabelStore

SMALL = [
    "debug=quick", "budget.rounds=1", "data.source.length=3", "data.target.length=3", "data.target_eval.length=2",
    "data.target.height=48", "data.target.width=64", "network.width=4", "pictures=0", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false", "schedule.steps=4",
]  # fmt: skip


def test_runs_resume_and_follow_one_another_without_hydras_state(tmp_path: Path) -> None:
    active = HydraConfig.initialized(), GlobalHydra.instance().is_initialized()
    ours = [*SMALL, "average_decay=0.5", "batchnorm=target"]  # what is evaluated is not the network that trains
    first = run_experiment([*ours, "seed=1"], tmp_path / "first")
    assert [record.round for record in first.history] == [0, 1]
    assert (first.folder, first.pending) == (tmp_path / "first", None)
    assert first.figures["miou"] == first.history[-1].miou
    assert first.checkpoint.is_file()
    assert LabelStore.open(first.labels).pixels == first.figures["pixels"] > 0
    assert yaml.safe_load((first.folder / "config.yaml").read_text())["output"] == str(first.folder)

    same = run_experiment(compose([*ours, "seed=1"]), tmp_path / "same")
    assert same.history == first.history
    one, other = (torch.load(each.checkpoint, weights_only=True)["state_dict"] for each in (first, same))
    assert all(torch.equal(one[name], other[name]) for name in one)

    plain = OmegaConf.to_container(compose([*ours, "seed=2"]), resolve=False)
    assert run_experiment(plain, str(tmp_path / "other")).history != first.history
    again = run_experiment([*ours, "seed=1"], tmp_path / "first")
    assert again.history == first.history
    assert (HydraConfig.initialized(), GlobalHydra.instance().is_initialized()) == active

    found = evaluate(first.checkpoint, tmp_path / "evaluation", trainer={"_target_": "pytorch_lightning.Trainer",
                     "accelerator": "cpu", "enable_progress_bar": False, "precision": None})  # fmt: skip
    assert math.isclose(found["miou"], first.figures["miou"])
    with pytest.raises(UserError, match=r"^seed: the run in .* has 1, this command 3"):
        run_experiment([*ours, "seed=3"], tmp_path / "first")


def test_a_run_that_waits_for_people_says_so_and_cannot_go_further_without_them(tmp_path: Path) -> None:
    result = run_experiment([*SMALL, "annotator=files"], tmp_path)
    assert result.pending is not None
    assert str(tmp_path / "annotation") in result.pending
    assert [record.round for record in result.history] == [0]
    with pytest.raises(AnswersPending):
        run_experiment([*SMALL, "annotator=files"], tmp_path)


def test_an_experiment_in_two_steps(tmp_path: Path) -> None:
    small = [item for item in SMALL if not item.startswith(("data.source", "schedule", "debug", "budget"))]
    steps = ["schedule.steps=2", "schedule.interval=1", "budget.rounds=1"]
    config = compose(["experiment=demo_source_free", *small, *steps])
    with pytest.raises(UserError, match=r"^pretrain: a composed config does not say how to train demo_source_only"):
        run_experiment(config, tmp_path / "composed")
    trained: list[str] = []

    def first_step(experiment: str, folder: Path) -> None:
        trained.append(experiment)
        run_experiment([f"experiment={experiment}", *small, "data.source.length=3", "schedule.steps=1"], folder)

    result = run_experiment(config, tmp_path / "run", first_step)
    assert trained == ["demo_source_only"]
    assert (tmp_path / "run" / "pretrain" / "checkpoints" / "last.ckpt").is_file()
    assert [record.round for record in result.history] == [0, 1]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["seed=-1"], "seed must be a whole number"),
        (["strategy.radius=-1"], "strategy.radius must be"),
        (["data.batch_size=0"], "data.batch_size must be"),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate"),
        (["optimizer._target_=torch.optim.AdamW"], "optimizer: .*momentum"),
        (["optimizer.head_factor=0"], "optimizer.head_factor must be"),
        (["optimizer.layer_decay=2"], "optimizer.layer_decay must be"),
        (["optimizer.norm_decay=some"], "optimizer.norm_decay: expected true or false"),
        (["lr_schedule.power=-1"], "lr_schedule.power must be"),
        (["lr_schedule=constant", "lr_schedule.warmup_steps=-1"], "lr_schedule.warmup_steps must be"),
        (["lr_schedule=cosine", "schedule.horizon=3"], "schedule.horizon: 3 steps, but the run has 4"),
        (["lr_schedule._target_=torch.optim.lr_scheduler.StepLR"], "lr_schedule: .*horizon"),
        (["batchnorm=none"], "batchnorm must be"),
        (["average_decay=1"], "average_decay must be"),
        (
            ["batchnorm=joint", "data.source_size=[36,64]", "data.target_size=[32,64]"],
            r"batchnorm: joint needs images of one size, got \[36, 64\] of the source and \[32, 64\]",
        ),
        (["rank_patience=0"], "rank_patience must be"),
        (["checkpoint_every=0"], "checkpoint_every must be"),
        (["schedule.first_round=-1"], "schedule.first_round must be"),
        (["name=???"], "name has no value"),
    ],
)
def test_errors_name_the_key_before_any_training(tmp_path: Path, overrides: list[str], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        run_experiment([*SMALL, *overrides], tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_another_optimizer_and_schedule_of_torch(tmp_path: Path) -> None:
    chosen = ["optimizer._target_=torch.optim.AdamW", "~optimizer.momentum", "optimizer.lr=0.001"]
    chosen += ["lr_schedule=constant", "lr_schedule._target_=torch.optim.lr_scheduler.StepLR"]
    chosen += ["~lr_schedule.warmup_steps", "+lr_schedule.step_size=2", "schedule.horizon=1"]  # which nothing uses
    result = run_experiment([*[item for item in SMALL if item != "budget.rounds=1"], *chosen, "budget=none"], tmp_path)
    saved = torch.load(result.checkpoint, weights_only=True)
    assert "exp_avg_sq" in saved["optimizer_states"][0]["state"][0]
    assert saved["lr_schedulers"][0]["step_size"] == 2
    assert saved["lr_schedulers"][0]["_last_lr"] == pytest.approx([1e-5, 1e-5])  # twice a tenth in 4 steps


def test_the_front_door_offers_both() -> None:
    assert {"run_experiment", "compose", "RunResult"} <= set(ripu_lightning.__all__)
