"""The ActiveLearningLoop inside one ``fit``: when labels are queried, how many, and when they are used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint

import tiny
from ripu_lightning.acquisition import Budget, Strategy, WholeImage, get_strategy
from ripu_lightning.annotation import GroundTruth
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.labels.maintenance import roll_back
from ripu_lightning.training import ActiveLearningLoop, Schedule


class Labels(Callback):
    """The target labels that each training step saw."""

    def __init__(self) -> None:
        self.labelled: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.labelled.append(int((batch["target"]["label"] != 255).sum()))


@pytest.mark.parametrize("workers", [0, 2])
def test_labels_are_used_from_the_very_next_step(tmp_path: Path, workers: int) -> None:
    data, seen = tiny.datamodule(num_workers=workers), Labels()
    active = tiny.loop(tmp_path / "labels", data)
    tiny.trainer(tmp_path, active, seen).fit(tiny.module(), datamodule=data)
    before, first, second = seen.labelled[:3], seen.labelled[3:5], seen.labelled[5:]
    assert len(seen.labelled) == 8
    assert max(before) == 0
    assert min(first) > 0
    assert min(second) > max(first)


def whole_images(folder: Path, data: ActiveDataModule) -> ActiveLearningLoop:
    """Queries one whole image in each of two rounds, after steps 3 and 5 of 8."""
    schedule = Schedule(steps=8, first_round=3, interval=2, rounds=2)
    strategy, budget = get_strategy("random", region_type=WholeImage()), Budget(images=2, rounds=2, per="pool")
    return ActiveLearningLoop(strategy, budget, GroundTruth(data.target), schedule, folder, seed=0)


def test_two_whole_images_of_twelve_are_trained_on_at_every_step(tmp_path: Path) -> None:
    class Labelled(Callback):
        def __init__(self) -> None:
            self.counts: list[tuple[int, int]] = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            masks = batch["labelled"]["label"]
            self.counts.append((trainer.current_epoch, int((masks != 255).any(dim=(1, 2)).sum())))

    data, seen = tiny.datamodule(length=12), Labelled()
    active = whole_images(tmp_path / "labels", data)
    tiny.trainer(tmp_path, active, seen).fit(tiny.module(), datamodule=data)
    assert [record.pixels for record in active.history] == [0, 24 * 32, 2 * 24 * 32]
    assert seen.counts == [(0, 0)] * 3 + [(1, 2)] * 2 + [(2, 2)] * 3


def test_whole_images_resume_inside_a_stage_to_the_same_weights(tmp_path: Path) -> None:
    """A step has three loaders once there are labels, and two again where these become inactive."""

    def run(step: int | None = None) -> list[torch.Tensor]:
        data, network = tiny.datamodule(), tiny.module()
        saver = ModelCheckpoint(tmp_path / f"from_{step}", filename="{step}", save_top_k=-1, every_n_train_steps=1)
        trainer = tiny.trainer(tmp_path, whole_images(tmp_path / "labels", data), saver, enable_checkpointing=True)
        start = None if step is None else tmp_path / "from_None" / f"step={step}.ckpt"
        trainer.fit(network, datamodule=data, ckpt_path=start, weights_only=True)
        return list(network.state_dict().values())

    whole = run()
    for step in (2, 4, 7):
        assert all(torch.equal(one, other) for one, other in zip(whole, run(step), strict=True))
    roll_back(tmp_path / "labels", 0)
    with pytest.raises(UserError, match="0 of the 1 rounds that the checkpoint was trained on are active"):
        run(4)


def test_budget_is_exact_and_nothing_is_queried_twice(tmp_path: Path) -> None:
    data = tiny.datamodule()
    active = tiny.loop(tmp_path / "labels", data)
    tiny.trainer(tmp_path, active).fit(tiny.module(), datamodule=data)
    store = LabelStore.open(tmp_path / "labels")
    per_round = -(-24 * 32 // 10 // 2 // 9)  # ceil of 10% of the pixels over two rounds of 3x3 squares
    assert [entry.queries for entry in store.rounds] == [5 * per_round] * 2
    for index, image_id in enumerate(data.target.ids):
        times = np.zeros((24, 32), dtype=int)
        for number in (1, 2):
            for top, left, height, width in store.answers(image_id, number).boxes:
                times[top : top + height, left : left + width] += 1
        truth, mask = data.target.label(index), store.mask(image_id)
        assert times.max() == 1
        assert np.array_equal(mask, np.where(times > 0, truth, 255))


def test_a_record_for_each_stage(tmp_path: Path) -> None:
    data = tiny.datamodule()
    active = tiny.loop(tmp_path / "labels", data)
    trainer = tiny.trainer(tmp_path, active)
    trainer.fit(tiny.module(), datamodule=data)
    store = LabelStore.open(tmp_path / "labels")
    assert [record.round for record in active.history] == [0, 1, 2]
    assert [record.step for record in active.history] == [3, 5, 8]
    assert [record.pixels for record in active.history] == [0, store.rounds[0].pixels, store.pixels]
    assert active.history[-1].share == pytest.approx(store.pixels / (5 * 24 * 32))
    assert active.history[-1].void == store.void > 0
    assert active.history[-1].miou == pytest.approx(trainer.callback_metrics["val/miou"].item())
    assert set(active.history[-1].iou) == set(tiny.CLASSES.names)


@pytest.mark.parametrize("strategy", ["ripu", "entropy", "random"])
def test_picks_do_not_depend_on_batches_or_workers(tmp_path: Path, strategy: str) -> None:
    pictures = []
    for name, options in {"a": {"eval_batch_size": 1}, "b": {"eval_batch_size": 5, "num_workers": 2}}.items():
        data = tiny.datamodule(**options)
        active = tiny.loop(tmp_path / name, data, strategy)
        tiny.trainer(tmp_path, active).fit(tiny.module(), datamodule=data)
        store = LabelStore.open(tmp_path / name)
        pictures.append([store.query_round(image_id) for image_id in data.target.ids])
    assert all(np.array_equal(one, other) for one, other in zip(*pictures, strict=True))


def test_modes_are_restored_after_scoring(tmp_path: Path) -> None:
    data, network = tiny.datamodule(), tiny.module()
    network.network.backbone[0].eval()
    active, modes = tiny.loop(tmp_path / "labels", data), []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args) -> None:
            modes.append([child.training for child in pl_module.network.modules()])

    tiny.trainer(tmp_path, active, Watch()).fit(network, datamodule=data)
    assert all(mode == modes[0] for mode in modes)
    assert modes[0].count(False) == 1  # the convolution that was put into eval on purpose


def test_nan_logits_query_nothing_and_name_the_image(tmp_path: Path) -> None:
    data, network = tiny.datamodule(), tiny.module()

    class Break(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args) -> None:
            pl_module.network.head.bias.data.fill_(torch.nan)

    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), Break())
    with pytest.raises(UserError, match=r"target!_0: .*NaN.*learning rate"):
        trainer.fit(network, datamodule=data)
    assert LabelStore.open(tmp_path / "labels").rounds == ()


def test_interrupted_before_its_checkpoint_uses_the_answers_again(tmp_path: Path) -> None:
    """A run that died between round 1 and its checkpoint resumes from the older one, without querying again."""

    def run(folder: str, resume: Path | None = None) -> tuple[ActiveLearningLoop, Path, list]:
        data = tiny.datamodule()
        active = tiny.loop(tmp_path / folder, data)
        saver = ModelCheckpoint(tmp_path / f"{folder}.ckpts", filename="{epoch}", save_top_k=-1)
        network = tiny.module()
        trainer = tiny.trainer(tmp_path, active, saver, enable_checkpointing=True)
        trainer.fit(network, datamodule=data, ckpt_path=resume, weights_only=True)
        return active, tmp_path / f"{folder}.ckpts", [value.clone() for value in network.state_dict().values()]

    whole, folder, weights = run("labels")
    files = {path.name: path.read_bytes() for path in (tmp_path / "labels").glob("*.parquet")}
    again, _, resumed = run("labels", resume=folder / "epoch=0.ckpt")
    assert {path.name: path.read_bytes() for path in (tmp_path / "labels").glob("*.parquet")} == files
    assert again.history == whole.history
    assert all(torch.equal(one, other) for one, other in zip(weights, resumed, strict=True))


def test_an_error_releases_the_store_for_the_next_run_of_this_process(tmp_path: Path) -> None:
    class Fail(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args) -> None:
            raise RuntimeError("planned")

    data = tiny.datamodule()
    with pytest.raises(RuntimeError, match="planned"):
        tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), Fail()).fit(tiny.module(), datamodule=data)
    data = tiny.datamodule()
    tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data)).fit(tiny.module(), datamodule=data)
    assert len(LabelStore.open(tmp_path / "labels").rounds) == 2


def test_checkpoint_without_its_labels_is_refused(tmp_path: Path) -> None:
    for folder in ("labels", "other"):
        data = tiny.datamodule()
        saver = ModelCheckpoint(tmp_path / "checkpoints", filename="{epoch}", save_top_k=-1)
        trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / folder, data), saver, enable_checkpointing=True)
        if folder == "labels":
            trainer.fit(tiny.module(), datamodule=data)
    with pytest.raises(UserError, match="0 of the 1 rounds that the checkpoint was trained on are active"):
        trainer.fit(
            tiny.module(), datamodule=data, ckpt_path=tmp_path / "checkpoints" / "epoch=0.ckpt", weights_only=True
        )


def test_checkpoint_of_other_rounds_is_refused(tmp_path: Path) -> None:
    for strategy in ("ripu", "random"):
        data = tiny.datamodule()
        folder = tmp_path / strategy
        saver = ModelCheckpoint(folder, filename="last", enable_version_counter=False)
        trainer = tiny.trainer(tmp_path, tiny.loop(folder / "labels", data, strategy), saver, enable_checkpointing=True)
        trainer.fit(tiny.module(), datamodule=data)
    data = tiny.datamodule()
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "random" / "labels", data))
    with pytest.raises(UserError, match="other rounds than those that the checkpoint was trained on are active"):
        trainer.fit(tiny.module(), datamodule=data, ckpt_path=tmp_path / "ripu" / "last.ckpt", weights_only=True)


def test_a_stage_that_is_cut_short_queries_nothing(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_train_batch_end(self, trainer, *arguments) -> None:
            trainer.should_stop = True

    data = tiny.datamodule()
    with pytest.raises(UserError, match="something ended a stage after step 1, before its last"):
        tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), Stop()).fit(tiny.module(), datamodule=data)
    assert LabelStore.open(tmp_path / "labels").rounds == ()


def run_with(tmp_path: Path, strategy: Strategy, budget: Budget) -> None:
    data = tiny.datamodule()
    schedule = Schedule(steps=8, first_round=3, interval=2, rounds=budget.rounds)
    active = ActiveLearningLoop(strategy, budget, GroundTruth(data.target), schedule, tmp_path / "labels")
    tiny.trainer(tmp_path, active).fit(tiny.module(), datamodule=data)


def test_a_budget_that_the_images_do_not_hold_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="more than an image of 24x32 holds"):
        run_with(tmp_path, get_strategy("random"), Budget(clicks=500, rounds=1))
    assert not (tmp_path / "labels").exists()


def test_budget_that_exclusion_leaves_unspent_is_warned_about_and_stops_quietly(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="200 queries .* at most 20"):
        run_with(tmp_path, get_strategy("ripu_point", radius=6), Budget(clicks=200, rounds=2))
    store = LabelStore.open(tmp_path / "labels")
    assert 0 < store.queries <= 5 * 20
    for image_id in (f"target!_{index}" for index in range(5)):
        assert not store.available(image_id).any()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"max_epochs": 7}, "max_epochs must be 3, one a stage, got 7"),
        ({"reload_dataloaders_every_n_epochs": 0}, "reload_dataloaders_every_n_epochs must be 1, because"),
        ({"min_epochs": 2}, "min_epochs and min_steps must be left out, because"),
        ({"max_steps": 100}, "max_steps must be left out, because"),
        ({"max_time": "00:01:00:00"}, r"max_time must not stop the run early \(Timer\), because"),
        ({"check_val_every_n_epoch": 2}, "check_val_every_n_epoch and val_check_interval must be left out"),
        ({"val_check_interval": 0.5}, "check_val_every_n_epoch and val_check_interval must be left out"),
        ({"overfit_batches": 1}, "fast_dev_run and overfit_batches must be left out"),
    ],
)
def test_trainers_that_would_lose_labels_are_refused(tmp_path: Path, options: dict, key: str) -> None:
    data = tiny.datamodule()
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), **options)
    with pytest.raises(InvalidArgument, match=f"Trainer: {key}"):
        trainer.fit(tiny.module(), datamodule=data)
    assert not (tmp_path / "labels").exists()


def test_early_stopping_is_refused_with_the_reason(tmp_path: Path) -> None:
    data = tiny.datamodule()
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), EarlyStopping("val/miou"))
    with pytest.raises(
        InvalidArgument, match=r"callbacks must not stop the run early \(EarlyStopping\), because its rounds"
    ):
        trainer.fit(tiny.module(), datamodule=data)


def test_accumulation_that_changes_during_the_run_is_refused(tmp_path: Path) -> None:
    data = tiny.datamodule()
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), GradientAccumulationScheduler({0: 2}))
    with pytest.raises(InvalidArgument, match="callbacks must not change accumulate_grad_batches"):
        trainer.fit(tiny.module(), datamodule=data)


def test_a_schedule_of_another_number_of_rounds_is_refused(tmp_path: Path) -> None:
    data, schedule = tiny.datamodule(), Schedule(steps=8, first_round=3, interval=2, rounds=2)
    with pytest.raises(
        InvalidArgument, match="ActiveLearningLoop: schedule must have as many rounds as the budget, 3, got 2"
    ):
        ActiveLearningLoop(
            get_strategy("ripu"), Budget(ratio=0.1, rounds=3), GroundTruth(data.target), schedule, tmp_path
        )


def test_a_round_that_the_checkpoint_missed_is_made_when_the_run_resumes(tmp_path: Path) -> None:
    """``ModelCheckpoint(every_n_train_steps=...)`` saves after a stage's last step, before its round."""
    data, network = tiny.datamodule(), tiny.module()
    tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data)).fit(network, datamodule=data)
    for step in (3, 5):
        folder = tmp_path / f"killed_at_{step}"
        data = tiny.datamodule()
        saver = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=step, save_top_k=-1)
        trainer = tiny.trainer(folder, tiny.loop(folder / "labels", data), saver, enable_checkpointing=True)
        trainer.fit(tiny.module(), datamodule=data)
        before = LabelStore.open(folder / "labels").rounds
        roll_back(folder / "labels", 0 if step == 3 else 1)  # as if it had been killed before the round
        data, resumed = tiny.datamodule(), tiny.module()
        active = tiny.loop(folder / "labels", data)
        with pytest.warns(UserWarning, match="logged no val/miou"):  # the validation of that stage was lost
            tiny.trainer(folder, active).fit(
                resumed, datamodule=data, ckpt_path=folder / f"step={step}.ckpt", weights_only=True
            )
        assert [record.step for record in active.history] == [3, 5, 8]
        after = LabelStore.open(folder / "labels").rounds
        assert [entry.pixels for entry in after] == [entry.pixels for entry in before]
        for name, value in resumed.state_dict().items():
            assert torch.equal(value, network.state_dict()[name])


def test_store_of_other_data_is_refused(tmp_path: Path) -> None:
    for length in (5, 4):
        data = tiny.datamodule(length)
        trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data))
        if length == 5:
            trainer.fit(tiny.module(), datamodule=data)
    with pytest.raises(UserError, match="labels"):
        trainer.fit(tiny.module(), datamodule=data)
    assert len(LabelStore.open(tmp_path / "labels").rounds) == 2


def early_loop(folder: Path, data) -> ActiveLearningLoop:
    schedule = Schedule(steps=6, first_round=0, interval=2, rounds=2)
    return ActiveLearningLoop(
        get_strategy("ripu"), Budget(ratio=0.1, rounds=2), GroundTruth(data.target), schedule, folder
    )


@pytest.mark.parametrize("validates", [True, False])
def test_a_round_before_the_first_step(tmp_path: Path, validates: bool) -> None:
    """Source-free: the first round scores with the initial weights."""
    data, seen = tiny.datamodule(), Labels()
    active = early_loop(tmp_path / "labels", data)
    options = {} if validates else {"limit_val_batches": 0}
    trainer = tiny.trainer(tmp_path, active, seen, num_sanity_val_steps=-1, **options)
    trainer.fit(tiny.module(), datamodule=data)
    assert [record.step for record in active.history] == [0, 2, 6]
    assert [record.round for record in active.history] == [0, 1, 2]
    assert all(np.isfinite(record.miou) == validates for record in active.history)
    first, second = seen.labelled[:2], seen.labelled[2:]
    assert len(seen.labelled) == 6
    assert min(first) > 0
    assert min(second) > max(first)


def test_a_run_that_starts_with_a_round_resumes(tmp_path: Path) -> None:
    """Killed in its first stage, after the round and before a checkpoint; then again from the stage's checkpoint."""

    class Stop(Callback):
        def __init__(self, step: int) -> None:
            self.step = step

        def on_train_batch_start(self, trainer, *args) -> None:
            if trainer.global_step == self.step:
                raise RuntimeError("killed")

    weights, records = [], []
    for name, kills in {"whole": [], "rest": [1, 3]}.items():
        for kill in [*kills, None]:
            data, network = tiny.datamodule(), tiny.module()
            active = early_loop(tmp_path / name, data)
            saver = ModelCheckpoint(tmp_path / f"{name}_checkpoints", filename="last", enable_version_counter=False)
            stop = [] if kill is None else [Stop(kill)]
            trainer = tiny.trainer(tmp_path, active, *stop, saver, num_sanity_val_steps=-1, enable_checkpointing=True)
            last = tmp_path / f"{name}_checkpoints" / "last.ckpt"
            start = {"datamodule": data, "ckpt_path": last if last.is_file() else None, "weights_only": True}
            if kill is None:
                trainer.fit(network, **start)
            else:
                with pytest.raises(RuntimeError, match="killed"):
                    trainer.fit(network, **start)
        weights.append(network.state_dict())
        records.append(active.history)
    assert records[0] == records[1]
    assert all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())


def test_a_trainer_without_the_check_before_the_first_step_is_refused(tmp_path: Path) -> None:
    data = tiny.datamodule()
    trainer = tiny.trainer(tmp_path, early_loop(tmp_path / "labels", data), num_sanity_val_steps=0)
    with pytest.raises(UserError, match="Trainer: num_sanity_val_steps must be -1"):
        trainer.fit(tiny.module(), datamodule=data)
