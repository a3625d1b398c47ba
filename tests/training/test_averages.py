"""The average of the weights that is evaluated: the plain recurrence, who uses it, and what checkpoints hold."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from torch import Tensor

import tiny
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.experiment.checkpoints import network_state
from ripu_lightning.losses import PseudoLabels, SourceCrossEntropy, TargetCrossEntropy, WeightedLosses
from ripu_lightning.training import RunCheckpoint, SegmentationModule
from ripu_lightning.training.target_statistics import target_batches

DECAY = 0.3
IMAGES = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(4))


def copies(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


class Watch(Callback):
    def __init__(self) -> None:
        self.networks: list[dict[str, Tensor]] = []
        self.averages: list[dict[str, Tensor]] = []
        self.evaluated: list[Tensor] = []
        self.validated: list[Tensor] = []

    def on_train_start(self, trainer, pl_module) -> None:
        self.networks.append(copies(pl_module.network.state_dict()))

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        self.networks.append(copies(pl_module.network.state_dict()))
        self.averages.append(copies(pl_module.average.module.state_dict()))

    def on_validation_end(self, trainer, pl_module) -> None:
        self.validated.append(pl_module(IMAGES).logits.clone())

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        pl_module.eval()
        with torch.no_grad():
            self.evaluated.append(pl_module(IMAGES).logits)
        pl_module.train()


def fit(folder: Path, module: SegmentationModule, *callbacks: Callback, **options: object) -> None:
    data, saving = tiny.datamodule(), RunCheckpoint(folder / "run")
    trainer = tiny.trainer(
        folder, tiny.loop(folder / "labels", data), *callbacks, saving, enable_checkpointing=True, **options
    )
    trainer.fit(module, datamodule=data, ckpt_path=saving.path if saving.path.is_file() else None, weights_only=True)


def test_the_average_follows_the_recurrence_and_is_what_is_evaluated(tmp_path: Path) -> None:
    watch, module = Watch(), tiny.module(average_decay=DECAY)
    fit(tmp_path, module, watch)
    names = ("backbone.0.weight", "head.bias", "backbone.1.weight", "backbone.1.running_mean")
    for name in names:
        average = watch.networks[0][name]
        for step, (network, found) in enumerate(zip(watch.networks[1:], watch.averages, strict=True)):
            kept = min(DECAY, (1 + step) / (10 + step))
            average = kept * average + (1 - kept) * network[name]
            torch.testing.assert_close(found[name], average)
        assert not torch.allclose(average, watch.networks[-1][name], rtol=1e-3)
    assert min(DECAY, 8 / 17) == DECAY > 1 / 10  # both sides of the minimum were seen
    by_hand = tiny.TwoConvs().eval()
    for number, step in enumerate((3, 5, 8)):
        by_hand.load_state_dict(watch.averages[step - 1])
        torch.testing.assert_close(watch.evaluated[number], by_hand(IMAGES).logits)
        assert torch.equal(watch.validated[number], watch.evaluated[number])
    module.train()
    assert module(IMAGES).logits.requires_grad  # training uses the network

    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    loaded = tiny.module(average_decay=DECAY)
    loaded.load_state_dict(checkpoint["state_dict"])
    torch.testing.assert_close(loaded.eval()(IMAGES).logits, watch.evaluated[-1])
    by_hand.load_state_dict(network_state(checkpoint))
    torch.testing.assert_close(by_hand(IMAGES).logits, watch.evaluated[-1])


def test_it_changes_what_is_queried_and_nothing_before(tmp_path: Path) -> None:
    plain, averaged = tiny.module(), tiny.module(average_decay=0.99)
    weights: list[list[Tensor]] = []

    class First(Callback):
        def on_train_batch_end(self, trainer, pl_module, batch, outputs, batch_idx) -> None:
            if trainer.global_step == 3:
                weights.append([each.clone() for each in pl_module.network.state_dict().values()])

    for name, module in (("plain", plain), ("averaged", averaged)):
        fit(tmp_path / name, module, First())
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))
    assert not torch.equal(plain.network.head.weight, averaged.network.head.weight)  # other labels in later stages


def test_it_resumes_inside_a_stage(tmp_path: Path) -> None:
    class Kill(Callback):
        def on_train_batch_start(self, trainer, *arguments) -> None:
            if trainer.global_step == 7:
                raise KeyError("killed")

    options = {"average_decay": 0.9, "batchnorm": "target"}
    complete, resumed = tiny.module(**options), tiny.module(**options)
    fit(tmp_path / "complete", complete)
    with pytest.raises(KeyError):
        fit(tmp_path / "cut", tiny.module(**options), Kill())
    fit(tmp_path / "cut", resumed)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in complete.state_dict().items())


def test_statistics_of_the_target_are_those_of_the_average(tmp_path: Path) -> None:
    watch, module = Watch(), tiny.module(average_decay=0.9, batchnorm="target")
    fit(tmp_path, module, watch)
    by_hand = tiny.TwoConvs()
    by_hand.load_state_dict(watch.averages[-1])
    by_hand.train()
    by_hand.backbone[1].momentum = None
    by_hand.backbone[1].reset_running_stats()
    for images in target_batches(tiny.datamodule(), module.seed):
        by_hand(images)
    torch.testing.assert_close(watch.evaluated[-1], by_hand.eval()(IMAGES).logits)


@pytest.mark.parametrize(("decay", "shared"), [(0.6, True), (0.7, False), (None, False)])
def test_a_teacher_of_the_same_decay_is_the_average(decay: float | None, shared: bool) -> None:
    terms = {"s": SourceCrossEntropy(), "t": TargetCrossEntropy(), "p": PseudoLabels(0.4)}
    module = tiny.module(losses=WeightedLosses(terms, dict.fromkeys(terms, 1.0), 0.6), average_decay=decay)
    assert (module.teacher is module.average) == shared
    assert len(module.averages) == 2 - shared - (decay is None)


def test_before_the_first_step_the_network_itself_is_evaluated() -> None:
    """Weights may be loaded after the module was built: its average is begun when training starts."""
    module, other = tiny.module(average_decay=0.9), tiny.TwoConvs().eval()
    module.network.load_state_dict(other.state_dict())
    torch.testing.assert_close(module.eval()(IMAGES).logits, other(IMAGES).logits)


def test_arguments_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"average_decay must be a number >= 0 and < 1, got 1\.0"):
        tiny.module(average_decay=1.0)
    with pytest.raises(UserError, match=r"^trainer\.precision: .*moving average"):
        fit(tmp_path, tiny.module(average_decay=0.9), precision="bf16-true")
