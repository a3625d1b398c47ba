"""The LightningModule: loss, schedule, precision, frozen BatchNorm and the metric, against plain formulas."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from torch.nn.functional import interpolate

import tiny
from ripu_lightning.class_map import ClassMap
from ripu_lightning.errors import InvalidArgument
from ripu_lightning.evaluation import Inference
from ripu_lightning.losses import SourceCrossEntropy, WeightedLosses
from ripu_lightning.training import SegmentationModule, polynomial_decay


class Rates(Callback):
    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def test_poly_decay_and_faster_head(tmp_path: Path) -> None:
    data, rates = tiny.datamodule(), Rates()
    active = tiny.loop(tmp_path / "labels", data)
    tiny.trainer(tmp_path, active, rates).fit(tiny.module(), datamodule=data)
    expected = [[0.05 * (1 - step / 50) ** 0.9, 0.1 * (1 - step / 50) ** 0.9] for step in range(8)]
    assert rates.rates == [pytest.approx(pair) for pair in expected]


def test_the_published_optimizer_and_schedule_are_the_defaults() -> None:
    made = SegmentationModule(tiny.TwoConvs(), tiny.losses(), tiny.CLASSES.names).configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert type(optimizer) is torch.optim.SGD
    backbone, head = optimizer.param_groups
    assert [(group["momentum"], group["weight_decay"]) for group in (backbone, head)] == [(0.9, 5e-4)] * 2
    assert (backbone["lr"], head["lr"]) == (2.5e-4, 2.5e-3)
    for _ in range(100):
        optimizer.step()
        schedule.step()
    assert backbone["lr"] == pytest.approx(2.5e-4 * (1 - 100 / 62_500) ** 0.9)


def test_any_optimizer_and_scheduler() -> None:
    network = tiny.module(
        optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.05),
        lr_scheduler=partial(torch.optim.lr_scheduler.ConstantLR, factor=0.5, total_iters=2),
        head_factor=3.0,
    )
    made = network.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert type(optimizer) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05] * 2
    held = [{id(parameter) for parameter in group["params"]} for group in optimizer.param_groups]
    assert held == [
        {id(each) for each in part.parameters()} for part in (network.network.backbone, network.network.head)
    ]
    rates = []
    for _ in range(3):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert rates == [pytest.approx(pair) for pair in ([5e-4, 1.5e-3], [5e-4, 1.5e-3], [1e-3, 3e-3])]


def test_a_step_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    """Dropout draws from a stream of its own: the same in a resumed run, whatever the user drew meanwhile."""

    class States(Callback):
        def __init__(self) -> None:
            self.states: list[torch.Tensor] = []

        def on_train_batch_start(self, trainer, *arguments) -> None:
            torch.rand(trainer.global_step)
            self.states.append(torch.get_rng_state())

        def on_train_batch_end(self, *arguments) -> None:
            self.states.append(torch.get_rng_state())

    weights = []
    for seed in (1, 2):
        data, network, states = tiny.datamodule(), tiny.module(), States()
        torch.manual_seed(seed)
        tiny.trainer(tmp_path, tiny.loop(tmp_path / str(seed), data), states).fit(network, datamodule=data)
        assert len(states.states) == 16
        assert all(torch.equal(*pair) for pair in zip(states.states[::2], states.states[1::2], strict=True))
        weights.append(list(network.state_dict().values()))
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_precisions_train_to_finite_and_close_losses(tmp_path: Path, precision: str) -> None:
    data = tiny.datamodule()
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), precision=precision)
    network = tiny.module()
    trainer.fit(network, datamodule=data)
    assert np.isfinite(trainer.callback_metrics["train/loss"].item())
    assert trainer.callback_metrics["val/miou"].item() > 0.2
    expected = torch.bfloat16 if precision == "bf16-true" else torch.float32
    assert all(parameter.dtype == expected for parameter in network.parameters())


def test_frozen_batchnorm_survives_train_and_a_whole_run(tmp_path: Path) -> None:
    data, network = tiny.datamodule(), tiny.module(batchnorm="frozen")
    norm = network.network.backbone[1]
    norm.running_mean.fill_(0.3)
    before = [value.clone() for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var)]
    tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data)).fit(network, datamodule=data)
    network.train()
    assert not norm.training
    assert network.network.backbone[0].training
    after = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_unfrozen_batchnorm_learns(tmp_path: Path) -> None:
    data, network = tiny.datamodule(), tiny.module()
    tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data)).fit(network, datamodule=data)
    norm = network.network.backbone[1]
    assert norm.running_mean.abs().sum() > 0
    assert not torch.equal(norm.weight, torch.ones_like(norm.weight))


def test_target_pass_is_left_out_when_no_term_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = SegmentationModule(
        tiny.TwoConvs(), WeightedLosses({"ce": SourceCrossEntropy()}, {"ce": 1.0}), tiny.CLASSES.names
    )
    network.eval()  # no dropout: both passes give the same
    monkeypatch.setattr(network, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(network, "log_dict", lambda *args, **kwargs: None)
    seen: list[float] = []
    network.network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean().item()))
    part = {"image": torch.randn(2, 3, 8, 8), "label": torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)}
    other = {"image": part["image"] + 5, "label": torch.full((2, 8, 8), 255, dtype=torch.uint8)}
    loss = network.training_step({"source": part, "target": other}, 0)
    logits = interpolate(network(part["image"]).logits, (8, 8), mode="bilinear", align_corners=True)
    assert loss.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, part["label"].long()).item(), abs=1e-6
    )
    assert len(seen) == 2  # one in the step, one just above; none on the target's images
    assert max(seen) < 1


def test_validation_counts_every_image_once_at_its_own_size(tmp_path: Path) -> None:
    data = tiny.datamodule(target_size=[16, 20])  # the network sees another size than the labels have
    network = tiny.module()
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data))
    result = trainer.validate(network, datamodule=data, verbose=False)[0]
    hit, union = np.zeros(3), np.zeros(3)
    network.eval()
    for batch in data.val_dataloader():
        for index, label in enumerate(batch.labels):
            logits = network(batch.image[index : index + 1]).logits
            full = interpolate(logits, label.shape, mode="bilinear", align_corners=True)
            predicted, truth = full.argmax(1)[0].numpy(), label.numpy()
            for c in range(3):
                counted = truth != 255
                hit[c] += ((predicted == c) & (truth == c)).sum()
                union[c] += (((predicted == c) | (truth == c)) & counted).sum()
    assert result["val/miou"] == pytest.approx((hit / union).mean(), abs=1e-6)
    assert result["val/iou/sky"] == pytest.approx(hit[1] / union[1], abs=1e-6)


def test_validation_logs_all_figures_of_what_inference_predicts(tmp_path: Path) -> None:
    data, inference = tiny.datamodule(target_size=[16, 20]), Inference(mirror=True, scales=[0.5, 1])
    network = tiny.module(replace(tiny.CLASSES, subsets={"2": ("tree", "sky")}), inference=inference)
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data))
    result = trainer.validate(network, datamodule=data, verbose=False)[0]
    counts = np.zeros((3, 3))
    network.eval()
    for batch in data.val_dataloader():
        with torch.no_grad():
            predictions = list(inference.predict(network, batch.image, batch.sizes))
        for predicted, label in zip(predictions, batch.labels, strict=True):
            known = label != 255
            np.add.at(counts, (label[known].numpy(), predicted[known].numpy()), 1)
    iou = counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())
    expected = {
        "val/miou": iou.mean(),
        "val/miou_2": iou[1:].mean(),
        "val/pixel_accuracy": counts.trace() / counts.sum(),
        "val/class_accuracy": (counts.diagonal() / counts.sum(1)).mean(),
        **{f"val/iou/{name}": value for name, value in zip(tiny.CLASSES.names, iou, strict=True)},
    }
    assert result == pytest.approx(expected, abs=1e-6)


class Unlabelled(tiny.Blocks):
    has_labels = False

    def image(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 255, (*self._size, 3), dtype=np.uint8)

    def label(self, index: int) -> np.ndarray:
        raise AssertionError("the truth was opened")


def test_without_labels_nothing_is_counted(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    data = tiny.datamodule()
    data.target_eval = Unlabelled("val", 3)
    active = tiny.loop(tmp_path / "labels", data)
    trainer = tiny.trainer(tmp_path, active)
    trainer.fit(tiny.module(), datamodule=data)
    assert not [name for name in trainer.callback_metrics if name.startswith("val/")]
    assert [np.isnan(record.miou) for record in active.history] == [True] * 3
    assert not [warning for warning in recwarn if "compute" in str(warning.message)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: tiny.module(head_factor=0.0), "SegmentationModule: head_factor must be a number > 0, got 0.0"),
        (lambda: polynomial_decay(None, horizon=0), "polynomial_decay: horizon must be a whole number >= 1, got 0"),
        (
            lambda: SegmentationModule(tiny.TwoConvs(), tiny.losses(), ["a", "b"]),
            "SegmentationModule: network must have as many classes as the data, 2, got 3",
        ),
        (
            lambda: SegmentationModule(torch.nn.Conv2d(3, 2, 1), tiny.losses(), ["a", "b"]),
            "SegmentationModule: network must have backbone, head and num_classes (SegmentationNetwork), got Conv2d",
        ),
    ],
)
def test_arguments_that_cannot_be(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        wrong()
    assert str(error.value) == message


def test_a_checkpoint_gives_the_class_map_back(tmp_path: Path) -> None:
    """Also where a module was given names alone: they are what a checkpoint without the map would have."""
    data, classes = tiny.datamodule(), replace(tiny.CLASSES, ids=((7,), (8, 9), (1,)), subsets={"2": ("tree", "sky")})
    active = tiny.loop(tmp_path / "labels", data)
    for given in (classes, list(tiny.CLASSES.names)):
        trainer = tiny.trainer(tmp_path, active)
        trainer.strategy.connect(tiny.module(given))
        trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
        loaded = SegmentationModule.load_from_checkpoint(
            tmp_path / "a.ckpt", network=tiny.TwoConvs(), losses=tiny.losses(), weights_only=True
        )
        assert loaded.class_map == ClassMap.of(given)
        assert loaded.classes == list(tiny.CLASSES.names)
