"""Pseudo-labels and class-mix as losses against loops over pixels; what a sum of terms needs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from ripu_lightning.errors import UserError
from ripu_lightning.losses import (
    AdaptivePseudoLabels,
    ClassMix,
    LossTerm,
    NegativeLearning,
    PseudoLabels,
    SourceCrossEntropy,
    StepOutputs,
    TargetCrossEntropy,
    WeightedLosses,
)
from ripu_lightning.losses import functional as L

SHAPE = (2, 4, 5, 6)


def make_logits(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (2 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))).to(dtype)


def make_labels(seed: int, known: float) -> Tensor:
    """Classes, and 255 on all but a share of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(SHAPE[1], (SHAPE[0], *SHAPE[2:]), generator=generator, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) >= known] = 255
    return labels


def softmax(logits: Tensor, b: int, i: int, j: int) -> np.ndarray:
    powers = np.exp(logits[b, :, i, j].detach().numpy())
    return powers / powers.sum()


def pixels() -> list[tuple[int, ...]]:
    return list(np.ndindex(SHAPE[0], *SHAPE[2:]))


@pytest.mark.parametrize("threshold", [0.4, 0.7, 0.968])
def test_pseudo_labels_equal_loops(threshold: float) -> None:
    logits = make_logits(1)
    found = L.pseudo_labels(logits, threshold)
    for index in pixels():
        p = softmax(logits, *index)
        assert found[index] == (p.argmax() if p.max() > threshold else 255)
    assert 0 < (found == 255).sum() < found.numel()


def test_pseudo_label_term_equals_loops() -> None:
    student, teacher, known = make_logits(2), make_logits(3), make_labels(4, known=0.3)
    value = PseudoLabels(0.7)(StepOutputs(target_logits=student, target_labels=known, teacher_logits=teacher))
    total, unlabelled = 0.0, 0
    for index in pixels():
        p = softmax(teacher, *index)
        if known[index] == 255:
            unlabelled += 1
            total -= math.log(softmax(student, *index)[p.argmax()]) if p.max() > 0.7 else 0
    assert 0 < unlabelled < known.numel()
    assert value.item() == pytest.approx(total / unlabelled, rel=1e-9)


def test_class_mix_term_equals_loops() -> None:
    student, teacher, known = make_logits(5), make_logits(6), make_labels(7, known=0.5)
    value = ClassMix(0.6)(StepOutputs(mixed_logits=student, mixed_labels=known, teacher_logits=teacher))
    total = 0.0
    for index in pixels():
        p, q = softmax(teacher, *index), softmax(student, *index)
        if known[index] != 255:
            total -= math.log(q[known[index]])
        elif p.max() > 0.6:
            total -= math.log(q[p.argmax()])
    assert value.item() == pytest.approx(total / known.numel(), rel=1e-9)


@pytest.mark.parametrize(
    ("term", "outputs"),
    [
        (PseudoLabels(0.999), {"target_labels": make_labels(8, known=0.5)}),  # nothing is confident
        (PseudoLabels(0.3), {"target_labels": make_labels(8, known=1.0)}),  # everything is labelled
        (ClassMix(0.999), {"mixed_labels": make_labels(8, known=0.0)}),  # nothing is known
    ],
)
def test_nothing_to_learn_is_a_differentiable_zero(term: LossTerm, outputs: dict[str, Tensor]) -> None:
    student, teacher = make_logits(9).requires_grad_(), 0.5 * make_logits(10)
    loss = term(StepOutputs(**{f"{term.domain}_logits": student}, teacher_logits=teacher, **outputs))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_gradients_reach_the_student_alone_and_are_those_of_its_cross_entropy() -> None:
    student, teacher, known = make_logits(11), make_logits(12), make_labels(13, known=0.3)
    teacher.requires_grad_()
    outputs = {"target_labels": known, "mixed_labels": known, "teacher_logits": teacher}

    def total(logits: Tensor) -> Tensor:
        step = StepOutputs(target_logits=logits, mixed_logits=logits, **outputs)
        return PseudoLabels(0.6)(step) + ClassMix(0.6)(step)

    assert torch.autograd.gradcheck(total, student.requires_grad_())
    total(student).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=30)
def test_a_label_silences_the_teacher_there(seed: int) -> None:
    teacher, known = make_logits(seed), make_labels(seed, known=0.5)
    other = torch.where((known != 255)[:, None], make_logits(seed + 1), teacher)
    for term, domain in ((PseudoLabels(0.5), "target"), (ClassMix(0.5), "mixed")):
        given_ = {f"{domain}_logits": make_logits(seed + 2), f"{domain}_labels": known}
        one, two = (term(StepOutputs(**given_, teacher_logits=logits)) for logits in (teacher, other))
        assert torch.equal(one, two)


def test_mean_over_given_pixels_counts_ignored_ones_as_nothing() -> None:
    logits, labels = make_logits(14), make_labels(15, known=0.5)
    over = torch.rand(labels.shape, generator=torch.Generator().manual_seed(16)) < 0.5
    labels[~over] = 255
    plain, known = L.cross_entropy(logits, labels).item(), (labels != 255).sum().item()
    assert L.cross_entropy(logits, labels, over).item() == pytest.approx(plain * known / over.sum().item())
    assert L.cross_entropy(logits, labels, torch.zeros_like(over)).isfinite()


# --- what a sum of terms needs -----------------------------------------------------------------------------


def weighted(**weights: float) -> WeightedLosses:
    known = {
        "source_ce": SourceCrossEntropy,
        "target_ce": TargetCrossEntropy,
        "negative": NegativeLearning,
        "pseudo": PseudoLabels,
        "mix": ClassMix,
    }
    return WeightedLosses({name: known[name]() for name in weights}, weights)


@pytest.mark.parametrize(
    ("weights", "domains", "teacher", "images"),
    [
        ({"source_ce": 1, "target_ce": 1}, {"source", "labelled"}, False, {"source", "labelled"}),
        ({"target_ce": 1, "negative": 1}, {"target", "labelled"}, False, {"target", "labelled"}),
        ({"source_ce": 1, "pseudo": 0, "mix": 0}, {"source"}, False, {"source"}),
        ({"target_ce": 1, "pseudo": 1}, {"target", "labelled"}, True, {"target", "labelled"}),
        ({"mix": 1}, {"mixed"}, True, {"source", "target"}),
    ],
)
def test_needs(weights: dict, domains: set, teacher: bool, images: set) -> None:
    losses = weighted(**weights)
    assert losses.domains == domains
    assert losses.needs_teacher == teacher
    losses.require(images)
    for missing in images:
        key = {"labelled": "target"}.get(missing, missing)
        with pytest.raises(UserError, match=rf"^WeightedLosses: terms\.\w+ needs {key} images, .*add {key} images"):
            losses.require(images - {missing})


def test_a_term_that_needs_the_teacher_needs_target_images() -> None:
    class Mine(LossTerm):
        domain = "source"
        needs_teacher = True

    with pytest.raises(UserError, match=r"terms\.mine needs target images"):
        WeightedLosses({"mine": Mine()}, {"mine": 1.0}).require({"source"})


def test_a_term_can_not_compare_labelled_images_with_the_teacher_on_others() -> None:
    class Mine(LossTerm):
        domain = "labelled"
        needs_teacher = True

    with pytest.raises(UserError, match=r"terms\.mine .*set Mine\.domain to target"):
        WeightedLosses({"mine": Mine()}, {"mine": 1.0})


@pytest.mark.parametrize("decay", [1, -0.1, float("nan"), "slow", None])
def test_wrong_decay(decay: object) -> None:
    with pytest.raises(UserError, match=r"^WeightedLosses: teacher_decay must be a number >= 0 and < 1, got"):
        WeightedLosses({"ce": TargetCrossEntropy()}, {"ce": 1.0}, teacher_decay=decay)


@pytest.mark.parametrize(("term", "name"), [(PseudoLabels, "PseudoLabels"), (ClassMix, "ClassMix")])
@pytest.mark.parametrize("threshold", [0, 1, 96.8, float("nan"), "high"])
def test_wrong_threshold(term: type, name: str, threshold: object) -> None:
    with pytest.raises(UserError, match=rf"^{name}: threshold must be a number > 0 and < 1"):
        term(threshold)


# --- adaptive pseudo-labels ----------------------------------------------------------------------------------


def evidence_by_loops(classes: np.ndarray, labels: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """scipy's connected components, one class and one segment after the other."""
    confirmed, contradicted = np.zeros(classes.shape, bool), np.zeros(classes.shape, bool)
    for image in range(len(classes)):
        for name in np.unique(classes[image]):
            segments, count = ndimage.label(classes[image] == name)
            for segment in range(1, count + 1):
                inside = segments == segment
                known = labels[image][inside & (labels[image] != 255)]
                right, wrong = (known == name).sum(), (known != name).sum()
                confirmed[image] |= inside & (right > 0 and right >= ratio * wrong)
                contradicted[image] |= inside & (wrong > right)
    return confirmed, contradicted


@given(st.integers(0, 2**31 - 1), st.sampled_from([0.1, 0.4]), st.sampled_from([1.0, 2.0, 4.0]))
def test_evidence_of_segments_equals_loops(seed: int, known: float, ratio: float) -> None:
    classes, labels = make_logits(seed).argmax(dim=1) // 2, make_labels(seed, known) // 2
    labels[labels == 127] = 255
    found = L.segment_evidence(classes, labels, ratio)
    for ours, expected in zip(found, evidence_by_loops(classes.numpy(), labels.numpy(), ratio), strict=True):
        assert np.array_equal(ours.numpy(), expected)


@pytest.mark.parametrize("confirm", [True, False])
def test_adaptive_term_equals_loops_over_three_steps(confirm: bool) -> None:
    term = AdaptivePseudoLabels(momentum=0.6, confirm=confirm, ramp_steps=4)
    level, shares, steps = 0.25, np.full(4, 0.25), 0
    for step, known in enumerate((make_labels(1, 0.0), make_labels(2, 0.3), make_labels(3, 0.3))):
        student, teacher = make_logits(20 + step), make_logits(30 + step)
        value = term(StepOutputs(target_logits=student, target_labels=known, teacher_logits=teacher))
        p = np.stack([softmax(teacher, *index) for index in pixels()])
        level = 0.6 * level + 0.4 * p.max(axis=1).mean()
        shares = 0.6 * shares + 0.4 * p.mean(axis=0)
        steps += int(step > 0)
        classes = p.argmax(axis=1).reshape(known.shape)
        confirmed, contradicted = evidence_by_loops(classes, known.numpy(), 4.0)
        total, unlabelled = 0.0, 0
        for index, q in zip(pixels(), p, strict=True):
            if known[index] != 255:
                continue
            unlabelled += 1
            counts = q.max() > level * shares[q.argmax()] / shares.max()
            if confirm:
                counts = (counts or confirmed[index]) and not contradicted[index]
            total -= counts * q.max() * math.log(softmax(student, *index)[q.argmax()])
        assert value.item() == pytest.approx(min(steps / 4, 1) * total / unlabelled, rel=1e-5)
    assert steps == 2


def test_adaptive_term_keeps_its_statistics_and_learns_nothing_in_evaluation() -> None:
    first, again = AdaptivePseudoLabels(), AdaptivePseudoLabels()
    outputs = {"target_labels": make_labels(3, 0.3), "teacher_logits": make_logits(2)}
    first(StepOutputs(target_logits=make_logits(1), **outputs))
    again.load_state_dict(first.state_dict())
    values = [term.eval()(StepOutputs(target_logits=make_logits(1), **outputs)) for term in (first, again, first)]
    assert values[0] == values[1] == values[2] != 0


@pytest.mark.parametrize(("argument", "value"), [("momentum", 1.0), ("ramp_steps", 0), ("confirm", 2)])
def test_adaptive_term_refuses_values_out_of_range(argument: str, value: float) -> None:
    with pytest.raises(UserError, match=f"AdaptivePseudoLabels: {argument}"):
        AdaptivePseudoLabels(**{argument: value})
