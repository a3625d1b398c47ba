"""BatchNorm: joint passes and statistics of the target, against passes by hand and numpy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader

import tiny
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.experiment.checkpoints import network_state
from ripu_lightning.losses import (
    ClassMix,
    LossTerm,
    NegativeLearning,
    SourceCrossEntropy,
    StepOutputs,
    TargetCrossEntropy,
    WeightedLosses,
)
from ripu_lightning.training import RunCheckpoint, SegmentationModule
from ripu_lightning.training.class_mix import class_mix
from ripu_lightning.training.target_statistics import TargetStatistics, target_batches


def part(seed: int, labelled: float = 1.0, size: tuple[int, int] = (8, 12)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (2, *size), generator=generator, dtype=torch.uint8)
    label[torch.rand(label.shape, generator=generator) >= labelled] = 255
    return {"image": torch.randn(2, 3, *size, generator=generator) + seed, "label": label}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step outside a trainer."""
    monkeypatch.setattr(SegmentationModule, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(SegmentationModule, "log_dict", lambda *args, **kwargs: None)


def losses(**terms: LossTerm) -> WeightedLosses:
    return WeightedLosses(terms, dict.fromkeys(terms, 1.0), teacher_decay=0.5)


# --- joint -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
def test_a_joint_step_is_one_pass_over_all_images() -> None:
    terms = {"s": SourceCrossEntropy(), "t": TargetCrossEntropy(), "n": NegativeLearning(), "m": ClassMix(0.4)}
    module = tiny.module(losses=losses(**terms), batchnorm="joint")
    module.network.backbone[3].p = 0.0  # no dropout
    parts = {"source": part(1), "labelled": part(2, 0.5), "target": part(3, 0.1)}
    mixed = class_mix(parts["source"], parts["target"], module._step_seed("class_mix"))
    every = torch.cat([*(each["image"] for each in parts.values()), mixed["image"]])
    features = nn.functional.conv2d(every, *module.network.backbone[0].parameters(), stride=2, padding=1)
    normal = (features - features.mean((0, 2, 3), keepdim=True)) / (
        features.var((0, 2, 3), False, keepdim=True) + 1e-5
    ).sqrt()
    logits = interpolate(module.network.head(normal.relu()), (8, 12), mode="bilinear", align_corners=True).split(2)
    taught = module.teacher(parts["target"]["image"]).logits
    outputs = StepOutputs(
        source_logits=logits[0], source_labels=parts["source"]["label"],
        labelled_logits=logits[1], labelled_labels=parts["labelled"]["label"],
        target_logits=logits[2], target_labels=parts["target"]["label"],
        mixed_logits=logits[3], mixed_labels=mixed["label"],
        teacher_logits=interpolate(taught, (8, 12), mode="bilinear", align_corners=True),
    )  # fmt: skip
    expected = sum(term(outputs) for term in terms.values())
    counts: list[int] = []
    module.network.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    assert module.training_step(parts, 0).item() == pytest.approx(expected.item(), rel=1e-5)
    assert counts == [8]
    counts.clear()
    parts["labelled"] = parts["target"]
    module.training_step(parts, 0)
    assert counts == [6]  # the same images once


@pytest.mark.usefixtures("quiet")
def test_images_of_two_sizes_cannot_pass_together() -> None:
    module = tiny.module(losses=losses(s=SourceCrossEntropy(), n=NegativeLearning()), batchnorm="joint")
    with pytest.raises(UserError, match=r"^batchnorm: joint needs images of one size, got source 8x12, target 9x12 "):
        module.training_step({"source": part(1), "target": part(2, size=(9, 12))}, 0)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="SegmentationModule: batchnorm must be 'separate' or 'joint' or"):
        tiny.module(batchnorm="none")


# --- target ------------------------------------------------------------------------------------------------


def test_statistics_are_the_means_over_the_batches() -> None:
    torch.manual_seed(1)
    network = tiny.TwoConvs().train()
    network.backbone[1].weight.data.uniform_(0.5, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches = [part(seed)["image"] for seed in range(3)]
    statistics = TargetStatistics(network)
    statistics.estimate(network, batches)
    with torch.no_grad():
        features = [network.backbone[0](images).numpy() for images in batches]
    mean = np.mean([each.mean((0, 2, 3)) for each in features], axis=0)
    variance = np.mean([each.var((0, 2, 3), ddof=1) for each in features], axis=0)
    found = dict(statistics.named_buffers())
    np.testing.assert_allclose(found["backbone/1/running_mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["backbone/1/running_var"], variance, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert network.backbone[1].momentum == 0.1

    own = tiny.TwoConvs().eval()
    own.load_state_dict(before)
    own.backbone[1].running_mean.copy_(torch.from_numpy(mean))
    own.backbone[1].running_var.copy_(torch.from_numpy(variance))
    network.eval()
    torch.testing.assert_close(statistics(network, batches[0]).logits, own(batches[0]).logits)
    statistics.current = False
    assert torch.equal(statistics(network, batches[0]).logits, network(batches[0]).logits)


def test_the_same_images_of_the_pool_for_any_world_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny.datamodule(length=11)
    alone = list(target_batches(data, seed=3))
    assert [len(images) for images in alone] == [4, 4]  # 3 images more make no batch
    monkeypatch.setattr(type(data), "_shard", lambda _: (1, 4))
    assert all(torch.equal(*pair) for pair in zip(alone, target_batches(data, seed=3), strict=True))
    assert not torch.equal(alone[0], next(target_batches(data, seed=4)))
    assert [len(images) for images in target_batches(tiny.datamodule(length=3), seed=3)] == [3]


def test_a_pool_of_a_stream_is_refused() -> None:
    data = tiny.datamodule()
    data.pool_dataloader = lambda: iter([])
    with pytest.raises(UserError, match="batchnorm: target needs single images of the pool"):
        next(target_batches(data, seed=0))


def test_images_of_several_sizes_pass_alone() -> None:
    class Mixed(tiny.Blocks):
        def image(self, index: int) -> np.ndarray:
            return super().image(index)[: 16 + 4 * (index % 2)]

    data = tiny.datamodule(length=4)
    data.target = Mixed("target!", 4)
    assert sorted(images.shape[2] for images in target_batches(data, seed=0)) == [16, 16, 20, 20]
    assert isinstance(data.pool_dataloader(), DataLoader)


class Watch(Callback):
    """Weights after each step, and the predictions that validation and acquisition would see at each stage's end."""

    def __init__(self) -> None:
        self.weights: list[list[Tensor]] = []
        self.logits: list[Tensor] = []
        self.statistics: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, *arguments) -> None:
        self.weights.append([each.detach().clone() for each in pl_module.network.state_dict().values()])

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        pl_module.eval()
        with torch.no_grad():
            self.logits.append(pl_module(part(5)["image"]).logits)
        pl_module.train()
        if pl_module.target_statistics is not None:
            assert pl_module.target_statistics.current
            self.statistics.append({name: value.clone() for name, value in pl_module.target_statistics.named_buffers()})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[SegmentationModule, Watch, Path]]:
    """Runs as ``target``, one of them without validation; and, with the same labels, one as ``separate``."""
    found = {}
    for name in ("separate", "target", "unvalidated", "random"):
        folder, watch = tmp_path_factory.mktemp(name), Watch()
        data, module = tiny.datamodule(), tiny.module(batchnorm="separate" if name == "separate" else "target")
        if name == "unvalidated":
            data.target_eval = None
        steps = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        saving = [steps, RunCheckpoint(folder / "run")] if name == "target" else []
        active = tiny.loop(folder / "labels", data, "random" if name in ("separate", "random") else "ripu")
        trainer = tiny.trainer(folder, active, watch, *saving, enable_checkpointing=bool(saving))
        trainer.fit(module, datamodule=data)
        found[name] = module, watch, folder
    return found


def test_training_goes_on_as_if_nothing_had_been_estimated(runs: dict) -> None:
    separate, target = (runs[name][1].weights for name in ("separate", "random"))
    assert len(separate) == len(target) == 8
    assert all(torch.equal(*pair) for step in zip(separate, target, strict=True) for pair in zip(*step, strict=True))


def test_evaluation_uses_statistics_of_the_weights_at_the_end_of_the_stage(runs: dict) -> None:
    module, watch, folder = runs["target"]
    data, by_hand = tiny.datamodule(), tiny.TwoConvs()
    for number, step in enumerate((3, 5, 8)):
        state = torch.load(folder / f"step={step}.ckpt", weights_only=True)["state_dict"]
        by_hand.load_state_dict({name[8:]: value for name, value in state.items() if name.startswith("network.")})
        by_hand.train()
        by_hand.backbone[1].momentum = None
        by_hand.backbone[1].reset_running_stats()
        for images in target_batches(data, module.seed):
            by_hand(images)
        found = watch.statistics[number]
        torch.testing.assert_close(found["backbone/1/running_mean"], by_hand.backbone[1].running_mean)
        torch.testing.assert_close(found["backbone/1/running_var"], by_hand.backbone[1].running_var)
        torch.testing.assert_close(watch.logits[number], by_hand.eval()(part(5)["image"]).logits)
    same_weights = (runs[name][1].logits[-1] for name in ("separate", "random"))
    assert not torch.allclose(*same_weights, atol=1e-3)


def test_acquisition_estimates_where_nothing_is_validated(runs: dict) -> None:
    """The loop estimates then; the queries, and so the weights of later stages, are those of the validated run."""
    pairs = zip(runs["target"][1].logits, runs["unvalidated"][1].logits, strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_a_checkpoint_evaluates_to_what_was_evaluated(runs: dict) -> None:
    _, watch, folder = runs["target"]
    checkpoint = torch.load(folder / "run" / "last.ckpt", weights_only=True)
    module = tiny.module(batchnorm="target")
    module.load_state_dict(checkpoint["state_dict"])
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(part(5)["image"]).logits, watch.logits[-1])
        network = tiny.TwoConvs()
        network.load_state_dict(network_state(checkpoint))  # as initial= and ripu-convert take it
        torch.testing.assert_close(network.eval()(part(5)["image"]).logits, watch.logits[-1])
    inside = torch.load(folder / "step=4.ckpt", weights_only=True)
    module.load_state_dict(inside["state_dict"])
    assert not module.target_statistics.current  # inside a stage nothing was evaluated
