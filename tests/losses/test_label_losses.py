"""Losses of labelled pixels against loops and brute force, and their terms: class weights, domains, config."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

import tiny
from ripu_lightning.cli.compose import compose
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.experiment.build import build
from ripu_lightning.losses import (
    BoundaryCrossEntropy,
    CrossEntropy,
    Dice,
    LabelTerm,
    LossTerm,
    LovaszSoftmax,
    OhemCrossEntropy,
    SourceCrossEntropy,
    StepOutputs,
    TargetCrossEntropy,
    WeightedLosses,
)
from ripu_lightning.losses import functional as L

CLASSES = 4
seeds = st.integers(0, 2**31 - 1)


def make_case(seed: int, height: int = 5, width: int = 6, known: float = 0.8) -> tuple[Tensor, Tensor]:
    """Seeded logits (2, 4, H, W) in float64; labels of few classes in blocks, some ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((2, CLASSES, height, width), generator=generator, dtype=torch.float64)
    coarse = torch.randint(CLASSES, (2, height // 2 + 1, width // 2 + 1), generator=generator)
    labels = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width].contiguous()
    labels[torch.rand(labels.shape, generator=generator) >= known] = 255
    return logits, labels


def probabilities(logits: Tensor) -> np.ndarray:
    """``(B, H, W, C)``."""
    powers = np.exp(logits.numpy().transpose(0, 2, 3, 1))
    return powers / powers.sum(axis=-1, keepdims=True)


def pixels(labels: Tensor) -> list[tuple[tuple[int, ...], int]]:
    """Index and class of each labelled pixel."""
    return [(index, int(labels[index])) for index in np.ndindex(*labels.shape) if labels[index] != 255]


# --- cross-entropies ---------------------------------------------------------------------------------------


def test_without_options_it_is_the_plain_mean_bit_for_bit() -> None:
    logits, labels = make_case(1)
    logits = logits.float()
    plain = F.cross_entropy(logits, labels, ignore_index=255, reduction="sum") / (labels != 255).sum()
    assert torch.equal(L.cross_entropy(logits, labels), plain)
    for options in ({"weights": torch.ones(CLASSES)}, {"weights": torch.full((CLASSES,), 0.001)}):
        torch.testing.assert_close(L.cross_entropy(logits, labels, **options), plain)


def test_class_weights_are_torchs() -> None:
    logits, labels = make_case(2)
    weights = torch.tensor([0.2, 0.0, 3.0, 1.5])
    expected = F.cross_entropy(logits, labels, weight=weights.double(), ignore_index=255)
    assert L.cross_entropy(logits, labels.to(torch.uint8), weights=weights).item() == pytest.approx(expected.item())
    only = torch.where(labels == 1, labels, 255)
    assert L.cross_entropy(logits, only, weights=weights) == 0  # all labels have weight 0


@pytest.mark.parametrize("focal", [0.5, 1.0, 2.0])
def test_focal_equals_loops(focal: float) -> None:
    logits, labels = make_case(3)
    p, weights = probabilities(logits), [0.5, 2.0, 1.0, 4.0]
    over = labels != 0
    parts = [(weights[c], -math.log(p[i][c]) * (1 - p[i][c]) ** focal) for i, c in pixels(labels)]
    total = sum(weight * loss for weight, loss in parts)
    divisor = sum(weight for weight, _ in parts)
    value = L.cross_entropy(logits, labels, weights=torch.tensor(weights), focal=focal)
    assert value.item() == pytest.approx(total / divisor)
    counted = sum(weights[int(c)] if c != 255 else 1 for c in labels[over])
    value = L.cross_entropy(logits, labels, over, torch.tensor(weights), focal)
    assert value.item() == pytest.approx(total / counted)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
@settings(max_examples=60)
def test_balanced_weights_equal_the_formula(counts: list[int]) -> None:
    found = L.balanced_weights(torch.tensor(counts)).tolist()
    raw = [1 / math.log(1.02 + count / max(sum(counts), 1)) for count in counts]
    present = [weight for weight, count in zip(raw, counts, strict=True) if count] or raw
    assert found == pytest.approx([weight * len(present) / sum(present) for weight in raw], rel=1e-4)


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.9])
def test_ohem_equals_loops(share: float, threshold: float) -> None:
    logits, labels = make_case(4)
    p = probabilities(logits)
    losses = sorted((-math.log(p[index][c]) for index, c in pixels(labels)), reverse=True)
    hard = [loss for loss in losses if math.exp(-loss) < threshold]
    least = losses[: math.ceil(share * len(losses))]
    expected = max(hard, least, key=len)
    assert L.ohem_cross_entropy(logits, labels, share, threshold).item() == pytest.approx(np.mean(expected))
    assert len(hard) not in {1, len(losses)}


def loop_is_near(labels: Tensor, index: tuple[int, ...], radius: int) -> bool:
    b, i, j = index
    own, around = (
        int(labels[index]),
        labels[b, max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1],
    )
    return own != 255 and any(int(label) not in (own, 255) for label in around.flatten())


@given(arrays(np.uint8, (1, 4, 6), elements=st.sampled_from([0, 1, 18, 254, 255])), st.integers(1, 4))
@settings(max_examples=60)
def test_near_boundary_equals_loops(array: np.ndarray, radius: int) -> None:
    labels = torch.from_numpy(array)
    found = L.near_boundary(labels, radius)
    assert found.flatten().tolist() == [loop_is_near(labels, index, radius) for index in np.ndindex(labels.shape)]
    assert torch.equal(L.near_boundary(labels, 1), L.boundary_mask(labels))


@pytest.mark.parametrize(("radius", "factor"), [(1, 4.0), (2, 0.0), (1, 0.25)])
def test_boundary_cross_entropy_equals_loops(radius: int, factor: float) -> None:
    logits, labels = make_case(5, 9, 11, known=0.6)
    labels[:, :5, :6] = 1
    p = probabilities(logits)
    parts = [(factor if loop_is_near(labels, i, radius) else 1, -math.log(p[i][c])) for i, c in pixels(labels)]
    assert len({weight for weight, _ in parts}) == 2
    expected = sum(weight * loss for weight, loss in parts) / sum(weight for weight, _ in parts)
    assert L.boundary_cross_entropy(logits, labels, radius, factor).item() == pytest.approx(expected)


# --- overlap -----------------------------------------------------------------------------------------------


def test_dice_equals_loops() -> None:
    logits, labels = make_case(6)
    labels[labels == 2] = 255
    p, known = probabilities(logits), pixels(labels)
    coefficients = []
    for c in {c for _, c in known}:
        products = sum(p[i][c] * (own == c) for i, own in known)
        squares = sum(p[i][c] ** 2 + (own == c) for i, own in known)
        coefficients.append(2 * products / squares)
    assert len(coefficients) == 3
    assert L.dice(logits, labels).item() == pytest.approx(1 - np.mean(coefficients))


def iou_loss(inside: list[bool], wrong: frozenset[int]) -> float:
    """One minus the IoU of a class, if these pixels are predicted wrongly and the others rightly."""
    truth = {index for index, each in enumerate(inside) if each}
    predicted = truth ^ wrong
    return 1 - len(truth & predicted) / len(truth | predicted)


def submodular_extension(errors: list[float], inside: list[bool]) -> float:
    """The highest value over all orders of adding pixels, by the definition of the base polytope."""
    values = []
    for order in itertools.permutations(range(len(errors))):
        sets = [frozenset(order[:count]) for count in range(len(errors) + 1)]
        losses = [iou_loss(inside, each) for each in sets]
        values.append(sum(errors[i] * (losses[rank + 1] - losses[rank]) for rank, i in enumerate(order)))
    return max(values)


@pytest.mark.parametrize("seed", range(3))
def test_lovasz_softmax_is_the_submodular_extension(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((1, 3, 2, 3), generator=generator, dtype=torch.float64)
    labels = torch.tensor([[[0, 2, 255], [0, 2, 2]]])
    p, known = probabilities(logits), pixels(labels)
    expected = []
    for c in (0, 2):
        inside = [own == c for _, own in known]
        expected.append(submodular_extension([abs((own == c) - p[i][c]) for i, own in known], inside))
    assert L.lovasz_softmax(logits, labels).item() == pytest.approx(np.mean(expected))


@given(seeds)
@settings(max_examples=30)
def test_lovasz_softmax_of_certain_predictions_is_the_iou_loss(seed: int) -> None:
    logits, labels = make_case(seed)
    predicted, known = logits.argmax(dim=1), labels != 255
    classes = labels[known].unique().tolist()
    overlaps = [((predicted == c) & (labels == c)).sum() for c in classes]
    unions = [(((predicted == c) & known) | (labels == c)).sum() for c in classes]
    expected = np.mean([1 - float(a) / float(b) for a, b in zip(overlaps, unions, strict=True)])
    certain = 1e4 * F.one_hot(predicted, CLASSES).permute(0, 3, 1, 2).double()
    assert L.lovasz_softmax(certain, labels).item() == pytest.approx(expected, abs=1e-6)


@given(seeds)
@settings(max_examples=30)
def test_overlap_losses_are_bounded_and_learn(seed: int) -> None:
    logits, labels = make_case(seed)
    logits.requires_grad_()
    for loss in (L.dice, L.lovasz_softmax):
        value = loss(logits, labels)
        (slope,) = torch.autograd.grad(value, logits)
        assert 0 < value < 1
        assert loss(logits - 0.1 * slope, labels) < value
        assert not slope.permute(0, 2, 3, 1)[labels == 255].any()


# --- wrong arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: L.cross_entropy(x, y, weights=torch.ones(3)), r"weights: expected one for each of 4 .* \(3,\)"),
        (lambda x, y: L.cross_entropy(x, y, focal=-1), "cross_entropy: focal must be .* >= 0, got -1"),
        (lambda x, y: L.ohem_cross_entropy(x, y, share=0), "ohem_cross_entropy: share must be .* got 0"),
        (lambda x, y: L.ohem_cross_entropy(x, y, threshold=2), "ohem_cross_entropy: threshold must be .* got 2"),
        (lambda x, y: L.boundary_cross_entropy(x, y, radius=0), "near_boundary: radius must be .* >= 1, got 0"),
        (lambda x, y: L.boundary_cross_entropy(x, y, factor=-1), "boundary_cross_entropy: factor must be .* got -1"),
        (lambda x, y: L.dice(x, y[:, 1:]), r"labels: expected \(B, H, W\) = \(2, 5, 6\)"),
        (lambda x, y: L.lovasz_softmax(x.long(), y), "logits: expected floating point"),
        (lambda x, y: OhemCrossEntropy(share=1.5), "OhemCrossEntropy: share must be .* got 1.5"),
        (lambda x, y: OhemCrossEntropy(threshold=-1), "OhemCrossEntropy: threshold must be .* got -1"),
        (lambda x, y: BoundaryCrossEntropy(radius=0.5), "BoundaryCrossEntropy: radius must be .* got 0.5"),
        (lambda x, y: BoundaryCrossEntropy(factor=None), "BoundaryCrossEntropy: factor must be .* got None"),
        (lambda x, y: Dice("target"), "Dice: domain must be 'source' or 'labelled', got 'target'"),
        (lambda x, y: CrossEntropy(focal="much"), "CrossEntropy: focal must be .* got 'much'"),
        (lambda x, y: SourceCrossEntropy("balance"), "SourceCrossEntropy: class_weights must be null, 'balanced' or"),
        (lambda x, y: CrossEntropy(class_weights=[0, 0]), r"class_weights must be null, .* got \[0, 0\]"),
        (lambda x, y: CrossEntropy(class_weights=[1, -1]), "CrossEntropy: class_weights.1 must be .* got -1"),
        (lambda x, y: CrossEntropy(class_weights=[1, 2]).loss(x, y), "weights: expected one for each of 4 classes"),
        (lambda x, y: CrossEntropy("source", [1, 2]).require_classes(4), "class_weights must have one .* 4 .* got 2"),
    ],
)
def test_wrong_arguments(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*make_case(7))


# --- terms -------------------------------------------------------------------------------------------------


@pytest.fixture
def outputs() -> StepOutputs:
    (source, labels), (target, queried) = make_case(8), make_case(9, known=0.2)
    return StepOutputs(source, labels, labelled_logits=target, labelled_labels=queried)


@pytest.mark.parametrize(
    ("kind", "options", "function"),
    [
        (CrossEntropy, {"focal": 2.0}, lambda x, y: L.cross_entropy(x, y, focal=2.0)),
        (
            CrossEntropy,
            {"class_weights": [1, 2, 3, 4]},
            lambda x, y: L.cross_entropy(x, y, weights=torch.tensor([1.0, 2, 3, 4])),
        ),
        (OhemCrossEntropy, {"share": 0.2, "threshold": 0.3}, lambda x, y: L.ohem_cross_entropy(x, y, 0.2, 0.3)),
        (BoundaryCrossEntropy, {"radius": 1, "factor": 9}, lambda x, y: L.boundary_cross_entropy(x, y, 1, 9)),
        (Dice, {}, L.dice),
        (LovaszSoftmax, {}, L.lovasz_softmax),
    ],
)
def test_terms_are_their_functions_on_either_domain(kind, options, function, outputs: StepOutputs) -> None:
    losses = WeightedLosses({d: kind(d, **options) for d in ("source", "labelled")}, {"source": 1, "labelled": 2})
    values = losses(outputs)[1]
    assert losses.domains == {"source", "labelled"}
    assert values["source"] == function(outputs.source_logits, outputs.source_labels)
    assert values["labelled"] == function(outputs.labelled_logits, outputs.labelled_labels)
    assert values["source"] != values["labelled"]
    assert torch.equal(kind(**options)(outputs), values["labelled"])  # the target, by default
    assert not losses.state_dict()


def test_balanced_weights_follow_the_labels_of_training_and_are_saved() -> None:
    steps = [make_case(seed) for seed in (10, 11, 12)]
    term = TargetCrossEntropy("balanced", focal=1.0)
    seen = torch.zeros(CLASSES, dtype=torch.int64)
    for logits, labels in steps:
        seen += torch.tensor([int((labels == c).sum()) for c in range(CLASSES)])
        expected = L.cross_entropy(logits, labels, weights=L.balanced_weights(seen), focal=1.0)
        saved = {key: value.clone() for key, value in term.state_dict().items()}
        assert torch.equal(term.loss(logits, labels), expected)
    resumed = TargetCrossEntropy("balanced", focal=1.0)
    resumed.load_state_dict(saved)
    assert torch.equal(resumed.loss(*steps[-1]), expected)
    counts = term.counts.clone()
    term.eval().loss(*steps[0])
    assert torch.equal(term.counts, counts)
    assert torch.equal(counts[:CLASSES], seen)


def test_the_plain_terms_have_nothing_to_save() -> None:
    assert not SourceCrossEntropy().state_dict()
    assert (SourceCrossEntropy().domain, TargetCrossEntropy().domain) == ("source", "labelled")


def test_a_label_term_must_define_its_loss(outputs: StepOutputs) -> None:
    with pytest.raises(NotImplementedError, match=r"LabelTerm must define loss\(logits, labels\)"):
        LabelTerm()(outputs)


PACKAGE = "ripu_lightning.losses"


def composed(*overrides: str) -> dict[str, LossTerm]:
    return dict(build(compose(["loss=ripu", *overrides]), "loss").terms)


def test_terms_are_added_on_the_command_line() -> None:
    config = compose(["loss=ripu", f"+loss.terms.target_dice._target_={PACKAGE}.Dice", "+loss.weights.target_dice=0.5"])
    losses = build(config, "loss")
    assert type(losses.terms["target_dice"]) is Dice
    assert losses.terms["target_dice"].domain == "labelled"
    assert losses.weights["target_dice"] == 0.5
    assert set(losses.terms) == {"source_ce", "target_ce", "local_consistency", "negative_learning", "target_dice"}


def test_terms_on_the_command_line_take_their_arguments() -> None:
    terms = composed(
        "+loss.terms.source_ce.class_weights=balanced",
        "+loss.terms.target_ce={class_weights:[1,2.5],focal:2}",
        f"+loss.terms.hard={{_target_:{PACKAGE}.OhemCrossEntropy,domain:source,share:0.25}}",
        "+loss.weights.hard=1",
    )
    assert terms["source_ce"].class_weights == "balanced"
    assert terms["target_ce"].weights.tolist() == [1, 2.5]
    assert terms["target_ce"].focal == 2
    assert (terms["hard"].domain, terms["hard"].share) == ("source", 0.25)


def test_class_weights_of_another_length_are_refused_before_training() -> None:
    losses = WeightedLosses({"ours": TargetCrossEntropy([1.0, 2.0])}, {"ours": 1.0})
    losses.require_classes(2)
    with pytest.raises(InvalidArgument) as error:
        tiny.module(losses=losses)
    assert (error.value.owner, error.value.argument) == ("WeightedLosses", "terms.ours.class_weights")
    assert error.value.problem == "must have one number for each of 3 classes, got 2"


def test_wrong_arguments_on_the_command_line_name_their_key() -> None:
    with pytest.raises(UserError, match=r"^loss\.terms\.source_ce\.class_weights must be null, 'balanced' or"):
        composed("+loss.terms.source_ce.class_weights=balance")
    with pytest.raises(UserError, match=r"^loss\.terms\.mine\.domain must be 'source' or 'labelled', got 'target'"):
        composed(f"+loss.terms.mine={{_target_:{PACKAGE}.LovaszSoftmax,domain:target}}", "+loss.weights.mine=1")
