"""Schedules, parameter groups, layer-wise rates, clipping and accumulation, against plain formulas."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchvision.ops import Conv2dNormActivation

import tiny
from ripu_lightning.errors import InvalidArgument
from ripu_lightning.labels import LabelStore
from ripu_lightning.losses import SourceCrossEntropy, WeightedLosses
from ripu_lightning.networks.backbones import ResNet
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.networks.small import SmallNet
from ripu_lightning.training import RunCheckpoint, SegmentationModule, constant_rate, cosine_decay, polynomial_decay
from ripu_lightning.training.optimization import backbone_layers, build_optimizer


def rates(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int, lr: float = 0.5) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=lr)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@given(st.integers(1, 30), st.integers(0, 12), st.sampled_from([0.0, 0.9, 1.0, 2.0]))
def test_schedules_are_their_formulas(horizon: int, warmup: int, power: float) -> None:
    rise = [min((step + 1) / warmup, 1) if warmup else 1 for step in range(horizon)]
    poly = [0.5 * (1 - step / horizon) ** power for step in range(horizon)]
    cosine = [0.25 * (1 + math.cos(math.pi * step / horizon)) for step in range(horizon)]
    schedules = (
        (partial(polynomial_decay, horizon=horizon, power=power, warmup_steps=warmup), poly),
        (partial(cosine_decay, horizon=horizon, warmup_steps=warmup), cosine),
        (partial(constant_rate, warmup_steps=warmup), [0.5] * horizon),
    )
    for make, expected in schedules:
        assert rates(make, horizon) == pytest.approx([a * b for a, b in zip(rise, expected, strict=True)])


def test_a_rate_is_never_zero_before_the_horizon_and_always_after_it() -> None:
    for make in (partial(polynomial_decay, horizon=7), partial(cosine_decay, horizon=7)):
        found = rates(make, 10)
        assert all(rate > 0 for rate in found[:7])
        assert found[7:] == [0.0] * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(cosine_decay, horizon=0), "cosine_decay: horizon must be a whole number >= 1, got 0"),
        (partial(polynomial_decay, power=-1), "polynomial_decay: power must be a number >= 0, got -1"),
        (partial(constant_rate, warmup_steps=-1), "constant_rate: warmup_steps must be a whole number >= 0, got -1"),
    ],
)
def test_arguments_of_schedules_that_cannot_be(make: Callable[..., LRScheduler], message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        make(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1))
    assert str(error.value) == message


# --- parameter groups --------------------------------------------------------------------------------------


def by_parameter(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter, each of which must be in one group."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [
        (names[id(parameter)], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert len(found) == len(names)
    return dict(found)


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_norms_and_biases_are_not_decayed(layer_decay: float) -> None:
    network, adamw = tiny.TwoConvs(), partial(torch.optim.AdamW, lr=0.1, weight_decay=0.03)
    found = by_parameter(build_optimizer(adamw, network, 2.0, False, layer_decay), network)
    decays = {name: decay for name, (_, decay) in found.items()}
    weights = {"backbone.0.weight", "head.weight"}
    assert decays == {name: 0.03 if name in weights else 0.0 for name, _ in network.named_parameters()}
    same = by_parameter(build_optimizer(adamw, network, 2.0, True, layer_decay), network)
    assert {decay for _, decay in same.values()} == {0.03}
    assert {name: rate for name, (rate, _) in same.items()} == {name: rate for name, (rate, _) in found.items()}


def test_the_default_is_a_group_for_the_backbone_and_one_for_the_head() -> None:
    network = tiny.TwoConvs()
    groups = build_optimizer(partial(torch.optim.SGD, lr=0.1), network, 10.0, True, 1.0).param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("backbone", 0.1), ("head", 1.0)]
    assert [len(group["params"]) for group in groups] == [4, 2]


class Token(nn.Module):
    """A backbone in the shape of a transformer: a parameter of its own, and lists of parts that it uses in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.embeddings = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)])
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()) for _ in range(count)) for count in (2, 1)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, 4) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        for number, (embedding, blocks, norm) in enumerate(zip(self.embeddings, self.blocks, self.norms, strict=True)):
            images = embedding(images) + (self.position if not number else 0)
            for block in blocks:
                images = block(images)
            images = norm(images)
        return images


def test_layers_are_blocks_in_the_order_of_use() -> None:
    backbone = Token()
    names = {id(module): name for name, module in backbone.named_modules()}
    order = ["embeddings.0", "blocks.0.0", "blocks.0.1", "norms.0", "embeddings.1", "blocks.1.0", "norms.1"]
    assert [names[id(layer)] for layer in backbone_layers(backbone)] == order
    assert all(module.training for module in backbone.modules())
    assert not backbone_layers(backbone)[0]._forward_pre_hooks


def test_layers_of_networks_as_they_are() -> None:
    def found(backbone: nn.Module) -> list[str]:
        names = {id(module): name for name, module in backbone.named_modules()}
        return [names[id(layer)] for layer in backbone_layers(backbone)]

    blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    assert found(ResNet("resnet18", 32)) == ["conv1", "bn1", *blocks]
    assert found(SmallNet(3, 4).backbone)[:3] == ["stages.0", "stages.1.0", "stages.1.1"]
    mobile = nn.Sequential(nn.Sequential(Conv2dNormActivation(3, 4), Conv2dNormActivation(4, 4)))
    assert found(mobile) == ["0.0", "0.1"]


def test_each_layer_learns_slower_than_the_next_by_hand() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = Token(), nn.Conv2d(4, 3, 1)

    network = Network()
    found = by_parameter(
        build_optimizer(partial(torch.optim.SGD, lr=0.2, weight_decay=0.0), network, 3.0, True, 0.5), network
    )
    expected = {
        "head": 0.6,
        "backbone.norms.1": 0.1,
        "backbone.blocks.1.0": 0.05,
        "backbone.embeddings.1": 0.025,
        "backbone.norms.0": 0.0125,
        "backbone.blocks.0.1": 0.00625,
        "backbone.blocks.0.0": 0.003125,
        "backbone.embeddings.0": 0.0015625,
        "backbone.position": 0.0015625,
    }
    assert {name for name, _ in network.named_parameters()} >= {"backbone.position", "head.bias"}
    for name, (rate, _) in found.items():
        assert rate == pytest.approx(next(value for part, value in expected.items() if name.startswith(part)))


# --- clipping and accumulation -----------------------------------------------------------------------------


class Plain(nn.Module):
    """A network without BatchNorm and dropout: its gradient is a mean over the images."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.backbone, self.head = 3, nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        features = self.backbone(images).relu()
        return SegmentationOutput(self.head(features), features)


class Clear(tiny.Blocks):
    """Without void pixels, so that every image has the same weight in a mean over batches."""

    def label(self, index: int):
        return super().label(index) % 3


class Weights(Callback):
    """The weights before the first step and after every batch."""

    def __init__(self) -> None:
        self.found: list[list[Tensor]] = []

    def on_train_start(self, trainer, pl_module) -> None:
        self.found.append([each.detach().clone() for each in pl_module.network.parameters()])

    def on_train_batch_end(self, trainer, pl_module, *arguments) -> None:
        self.on_train_start(trainer, pl_module)


def sgd_module(network: nn.Module, lr: float = 0.1) -> SegmentationModule:
    return SegmentationModule(
        network,
        WeightedLosses({"ce": SourceCrossEntropy()}, {"ce": 1.0}),
        tiny.CLASSES.names,
        optimizer=partial(torch.optim.SGD, lr=lr),
        lr_scheduler=partial(polynomial_decay, horizon=8),
        head_factor=1.0,
    )


def fit(folder: Path, module: SegmentationModule, batch_size: int, *callbacks: Callback, **options) -> None:
    data = tiny.datamodule(batch_size=batch_size)
    data.source = Clear("source", 4)
    tiny.trainer(folder, tiny.loop(folder / "labels", data), *callbacks, **options).fit(module, datamodule=data)


def test_two_batches_of_two_step_as_one_of_four(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, one, two = Plain(), Weights(), Weights()
    other = Plain()
    other.load_state_dict(first.state_dict())
    fit(tmp_path / "one", sgd_module(first), 4, one)
    fit(tmp_path / "two", sgd_module(other), 2, two, accumulate_grad_batches=2)
    assert (len(one.found), len(two.found)) == (9, 17)
    for step in range(9):
        torch.testing.assert_close(one.found[step], two.found[2 * step])
    assert not torch.allclose(one.found[0][0], one.found[8][0], atol=1e-3)


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    watch = Weights()
    fit(tmp_path, sgd_module(Plain()), 2, watch, gradient_clip_val=0.01)
    for step, (old, new) in enumerate(zip(watch.found, watch.found[1:], strict=False)):
        moved = torch.cat([(b - a).flatten() for a, b in zip(old, new, strict=True)]).norm()
        assert moved.item() == pytest.approx(0.1 * (1 - step / 8) ** 0.9 * 0.01, rel=1e-3)


def test_accumulation_resumes_inside_a_stage_and_counts_steps(tmp_path: Path) -> None:
    """Interrupted in the middle of a step, a run ends that step; class-mix and dropout draw anew for each batch."""

    class Interrupt(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if trainer.global_step == 6:
                saving.signum = 15

    def run(folder: Path, *callbacks: Callback, saving: RunCheckpoint, accumulate: int = 2):
        data, module = tiny.datamodule(), tiny.module()
        active = tiny.loop(folder / "labels", data)
        trainer = tiny.trainer(
            folder, active, *callbacks, saving, accumulate_grad_batches=accumulate, enable_checkpointing=True
        )
        resume = saving.path if saving.path.is_file() else None
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        return module, active

    whole, active = run(tmp_path / "whole", saving=RunCheckpoint(tmp_path / "whole" / "c"))
    assert [record.step for record in active.history] == [3, 5, 8]
    saving = RunCheckpoint(tmp_path / "cut" / "c")
    with pytest.raises(Exception, match="after step 7, with a checkpoint"):
        run(tmp_path / "cut", Interrupt(), saving=saving)
    with pytest.raises(InvalidArgument, match="accumulate_grad_batches must be 2, as in the run"):
        run(tmp_path / "cut", saving=RunCheckpoint(tmp_path / "cut" / "c"), accumulate=1)
    resumed, again = run(tmp_path / "cut", saving=RunCheckpoint(tmp_path / "cut" / "c"))
    assert again.history == active.history
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    stores = [LabelStore.open(tmp_path / name / "labels") for name in ("whole", "cut")]
    assert stores[0].pixels == stores[1].pixels > 0


def test_each_batch_of_a_step_draws_its_own(tmp_path: Path) -> None:
    class Seeds(Callback):
        def __init__(self) -> None:
            self.found: list[int] = []

        def on_before_backward(self, trainer, pl_module, loss) -> None:
            self.found.append(pl_module._step_seed("dropout"))

    one, two = Seeds(), Seeds()
    for seeds, count in ((one, 1), (two, 2)):
        fit(tmp_path / str(count), tiny.module(), 2, seeds, accumulate_grad_batches=count)
    assert len(set(two.found)) == len(two.found) == 16
    assert two.found[::2] == one.found
