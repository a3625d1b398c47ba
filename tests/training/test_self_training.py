"""Self-training in a whole fit: the teacher follows by hand's formula, resumes exactly, and sees no truth."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn.functional import interpolate

import tiny
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.errors import UserError
from ripu_lightning.losses import (
    ClassMix,
    LossTerm,
    NegativeLearning,
    PseudoLabels,
    SourceCrossEntropy,
    StepOutputs,
    TargetCrossEntropy,
    WeightedLosses,
)
from ripu_lightning.training import SegmentationModule
from ripu_lightning.training.class_mix import class_mix
from ripu_lightning.training.moving_average import MovingAverage

DECAY = 0.6


def module(decay: float = DECAY, **terms: LossTerm) -> SegmentationModule:
    torch.manual_seed(0)
    terms = terms or {
        "source": SourceCrossEntropy(),
        "target": TargetCrossEntropy(),
        "pseudo": PseudoLabels(0.4),
        "mix": ClassMix(0.4),
    }
    losses = WeightedLosses(terms, dict.fromkeys(terms, 1.0), teacher_decay=decay)
    return tiny.module(losses=losses)


def copies(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


class Watch(Callback):
    """Student and teacher before the first step and after every one."""

    def __init__(self) -> None:
        self.students: list[dict[str, Tensor]] = []
        self.teachers: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer, pl_module) -> None:
        self.students.append(copies(pl_module.network.state_dict()))

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        self.students.append(copies(pl_module.network.state_dict()))
        self.teachers.append(copies(pl_module.teacher.module.state_dict()))


def fit(folder: Path, network: SegmentationModule, *callbacks: Callback, resume: Path | None = None, **options) -> None:
    data = tiny.datamodule()
    trainer = tiny.trainer(folder, tiny.loop(folder / "labels", data), *callbacks, **options)
    trainer.fit(network, datamodule=data, ckpt_path=resume, weights_only=True)


# --- the teacher -------------------------------------------------------------------------------------------


def test_off_by_default() -> None:
    network = tiny.module()
    assert network.teacher is None
    assert not any("teacher" in name for name in network.state_dict())


def test_teacher_is_the_moving_average_of_the_student(tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, module(), watch)
    assert len(watch.teachers) == 8
    for name in ("backbone.0.weight", "head.bias", "backbone.1.weight", "backbone.1.running_mean"):
        average = watch.students[0][name]
        for student, teacher in zip(watch.students[1:], watch.teachers, strict=True):
            average = DECAY * average + (1 - DECAY) * student[name]
            torch.testing.assert_close(teacher[name], average)
        assert not torch.allclose(average, watch.students[-1][name], rtol=1e-3)


def test_first_teacher_is_the_student_with_the_weights_it_starts_with(tmp_path: Path) -> None:
    network, start = module(decay=0.9999), tiny.TwoConvs()
    network.network.load_state_dict(start.state_dict())  # as a source-free run does
    fit(tmp_path, network)
    torch.testing.assert_close(network.teacher.module.head.weight, start.head.weight, atol=1e-2, rtol=0)
    assert not torch.allclose(network.network.head.weight, start.head.weight, atol=1e-2, rtol=0)


def test_checkpoints_hold_the_teacher_of_their_step_and_resume_exactly(tmp_path: Path) -> None:
    watch, network = Watch(), module()
    saver = ModelCheckpoint(tmp_path / "ckpts", filename="{step}", save_top_k=-1, every_n_train_steps=1)
    fit(tmp_path, network, watch, saver, enable_checkpointing=True)
    for step in (1, 3, 8):
        saved = torch.load(tmp_path / "ckpts" / f"step={step}.ckpt", weights_only=True)["state_dict"]
        for name, value in watch.teachers[step - 1].items():
            assert torch.equal(saved[f"teacher.module.{name}"], value)
    for step in (3, 6):  # at a stage's end, and inside one
        resumed = module(decay=DECAY)
        fit(tmp_path, resumed, resume=tmp_path / "ckpts" / f"step={step}.ckpt")
        assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in network.state_dict().items())


def test_teacher_stays_in_eval_mode_without_gradients_and_out_of_the_optimiser() -> None:
    network = module()
    network.train()
    assert network.network.training
    assert not any(child.training for child in network.teacher.modules())
    images, before = torch.randn(2, 3, 8, 8), copies(network.teacher.state_dict())
    one, two = (network.teacher(images).logits for _ in range(2))
    assert torch.equal(one, two)  # no dropout
    assert not one.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.teacher.state_dict().items())
    groups = network.configure_optimizers()["optimizer"].param_groups
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in network.network.parameters()}
    assert not any(parameter.requires_grad for parameter in network.teacher.parameters())


def test_weights_of_16_bits_are_refused_where_the_teacher_would_stand_still(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trainer\.precision: .*bf16-mixed"):
        fit(tmp_path, module(), precision="bf16-true")


def test_mixed_precision_trains(tmp_path: Path) -> None:
    network, watch = module(), Watch()
    fit(tmp_path, network, watch, precision="bf16-mixed")
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert watch.teachers[0]["head.weight"].dtype == torch.float32


# --- the step ----------------------------------------------------------------------------------------------


def part(seed: int, known: float = 1.0, size: tuple[int, int] = (8, 12)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (2, *size), generator=generator, dtype=torch.uint8)
    label[torch.rand(label.shape, generator=generator) >= known] = 255
    return {"image": torch.randn(2, 3, *size, generator=generator), "label": label}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step outside a trainer."""
    monkeypatch.setattr(SegmentationModule, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(SegmentationModule, "log_dict", lambda *args, **kwargs: None)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("source_size", [(8, 12), (9, 12)])
def test_step_equals_the_parts_put_together_by_hand(source_size: tuple[int, int]) -> None:
    network = module(pseudo=PseudoLabels(0.4), mix=ClassMix(0.4)).eval()
    with torch.no_grad():
        network.teacher.module.head.weight.add_(1)  # no longer the student
    source, target = part(1, size=source_size), part(2, known=0.2)
    seen: list[Tensor] = []
    network.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(3)
    seed = network._step_seed("class_mix")
    loss = network.training_step({"source": source, "target": target}, 0)
    assert len(seen) == 2  # target and mixed: no term needs the source's own pass
    mixed = class_mix(source, target, seed)
    assert torch.equal(seen[0], target["image"])
    assert torch.equal(seen[1], mixed["image"])

    def full(model: torch.nn.Module, images: Tensor) -> Tensor:
        return interpolate(model(images).logits, (8, 12), mode="bilinear", align_corners=True)

    outputs = StepOutputs(
        target_logits=full(network, target["image"]),
        target_labels=target["label"],
        teacher_logits=full(network.teacher, target["image"]),
        mixed_logits=full(network, mixed["image"]),
        mixed_labels=mixed["label"],
    )
    expected = PseudoLabels(0.4)(outputs) + ClassMix(0.4)(outputs)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.network.parameters())
    assert all(parameter.grad is None for parameter in network.teacher.parameters())


def test_drawn_classes_follow_from_seed_step_and_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny.module(seed=7)
    first = network._step_seed("class_mix")
    torch.manual_seed(8)  # the global random state changes nothing
    assert network._step_seed("class_mix") == first
    for owner, name in ((SegmentationModule, "global_step"), (SegmentationModule, "global_rank")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, 1)
            assert network._step_seed("class_mix") != first
    assert network._step_seed("dropout") != first
    assert tiny.module(seed=8)._step_seed("class_mix") != first


@pytest.mark.usefixtures("quiet")
def test_the_teacher_sees_the_weak_view_and_the_student_the_strong_one() -> None:
    network, target = module(pseudo=PseudoLabels(0.4)).eval(), part(2, known=0.2)
    seen: dict[str, Tensor] = {}
    network.network.register_forward_pre_hook(lambda _, inputs: seen.__setitem__("student", inputs[0]))
    network.teacher.module.register_forward_pre_hook(lambda _, inputs: seen.__setitem__("teacher", inputs[0]))
    network.training_step({"target": {**target, "weak": part(3)["image"]}}, 0)
    assert torch.equal(seen["student"], target["image"])
    assert torch.equal(seen["teacher"], part(3)["image"])


@pytest.mark.usefixtures("quiet")
def test_target_terms_need_no_source() -> None:
    network = module(target=TargetCrossEntropy(), negative=NegativeLearning(), pseudo=PseudoLabels(0.4)).eval()
    target = part(4, known=0.5)
    alone = network.training_step({"labelled": target, "target": target}, 0)
    assert alone > 0
    assert torch.equal(alone, network.training_step({"source": part(5), "labelled": target, "target": target}, 0))


@pytest.mark.usefixtures("quiet")
def test_labelled_images_have_a_pass_of_their_own_unless_they_are_the_targets() -> None:
    network = module(target=TargetCrossEntropy(), negative=NegativeLearning()).eval()
    target, labelled = part(4, known=0.5), part(5, known=0.5)
    seen: list[Tensor] = []
    network.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    def alone(term: LossTerm, batch: dict[str, Tensor]) -> float:
        return module(term=term).eval().training_step({"labelled": batch, "target": batch}, 0).item()

    for ours, passes in ((target, [target]), (labelled, [labelled, target])):
        seen.clear()
        expected = alone(TargetCrossEntropy(), ours) + alone(NegativeLearning(), target)
        loss = network.training_step({"labelled": ours, "target": target}, 0)
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        assert len(seen) == len(passes)
        assert all(torch.equal(images, each["image"]) for images, each in zip(seen, passes, strict=True))
    assert alone(TargetCrossEntropy(), target) != pytest.approx(alone(TargetCrossEntropy(), labelled), rel=1e-3)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("terms", [{"ce": SourceCrossEntropy()}, {"ce": ClassMix()}])
def test_a_batch_without_source_is_refused_where_a_term_needs_it(terms: dict[str, LossTerm]) -> None:
    with pytest.raises(UserError, match=r"terms\.ce needs source images"):
        module(**terms).training_step({"target": part(6)}, 0)


def test_the_truth_of_the_target_is_never_opened(tmp_path: Path) -> None:
    class Unreadable(tiny.Blocks):
        def label(self, index: int):
            raise AssertionError("the truth was opened")

        def image(self, index: int):
            return tiny.Blocks("target!").image(index)

    data = ActiveDataModule(tiny.Blocks("source", 4), Unreadable("target!"), tiny.Blocks("val", 3), batch_size=2)
    watch = Watch()
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data, rounds=0), watch, limit_val_batches=0)
    trainer.fit(module(), datamodule=data)
    assert len(watch.teachers) == 8
    assert isinstance(trainer.lightning_module.teacher, MovingAverage)
    assert trainer.callback_metrics["train/pseudo"] > 0
    assert trainer.callback_metrics["train/mix"] > 0
