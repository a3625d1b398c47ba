"""The losses against the public implementation's figures, per-pixel loops, gradients and their properties."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from ripu_lightning.errors import UserError
from ripu_lightning.losses import (
    LocalConsistency,
    LossTerm,
    NegativeLearning,
    SourceCrossEntropy,
    StepOutputs,
    TargetCrossEntropy,
    WeightedLosses,
)
from ripu_lightning.losses import functional as L

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "losses_19c.npz"
NORMS = ("l1", "kl")
BOUNDARIES = ("clean", "official", "everywhere")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Operations this small are slower on several threads, far slower on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_case(seed: int, shape=(2, 4, 6, 7), dtype=torch.float32) -> tuple[Tensor, Tensor]:
    """Seeded logits with confident spots, and blocky labels with about a tenth ignored."""
    generator = torch.Generator().manual_seed(seed)
    batch, classes, height, width = shape
    logits = (4 * torch.randn(shape, generator=generator)).to(dtype)
    coarse = torch.randint(classes, (batch, height // 2 + 1, width // 2 + 1), generator=generator)
    labels = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width].contiguous()
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    return logits, labels


# --- against the public implementation ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays_:
        return dict(arrays_)


@pytest.mark.parametrize("norm", NORMS)
def test_golden_local_consistency_is_the_official_boundary(golden, norm):
    logits, labels = torch.from_numpy(golden["logits"]), torch.from_numpy(golden["labels"])
    expected = golden[f"local_consistency_{norm}"].item()
    values = {name: L.local_consistency(logits, labels, norm, name).item() for name in BOUNDARIES}
    assert values["official"] == pytest.approx(expected, rel=1e-5)
    assert values["clean"] != pytest.approx(expected, rel=1e-4)
    assert values["everywhere"] != pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("threshold", [0.05, 0.01])
def test_golden_negative_learning(golden, threshold):
    value = L.negative_learning(torch.from_numpy(golden["logits"]), threshold).item()
    assert value == pytest.approx(golden[f"negative_learning_{threshold}"].item(), rel=1e-5)


# --- against loops over pixels -----------------------------------------------------------------------------


def loop_softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def loop_is_boundary(labels: np.ndarray, b: int, i: int, j: int, boundary: str) -> bool:
    height, width = labels.shape[1:]
    if boundary == "everywhere":
        return True
    own = int(labels[b, i, j])
    around = [(i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1) if (di, dj) != (0, 0)]
    inside = [int(labels[b, r, c]) for r, c in around if 0 <= r < height and 0 <= c < width]
    if own == 255:
        return False
    if boundary == "official":
        return 8 * own - sum(inside) != 0
    return any(label not in (own, 255) for label in inside)


def loop_local_consistency(logits: np.ndarray, labels: np.ndarray, norm: str, boundary: str) -> float:
    p = loop_softmax(logits)
    batch, classes, height, width = p.shape
    distances = []
    for b, i, j in np.ndindex(batch, height, width):
        if not loop_is_boundary(labels, b, i, j, boundary):
            continue
        distance = 0.0
        for c in range(classes):
            rows = [min(max(i + d, 0), height - 1) for d in (-1, 0, 1)]
            columns = [min(max(j + d, 0), width - 1) for d in (-1, 0, 1)]
            mean = sum(p[b, c, r, k] for r in rows for k in columns) / 9
            own = p[b, c, i, j]
            distance += abs(own - mean) if norm == "l1" else own * math.log(own / (mean + 1e-6) + 1e-6)
        distances.append(distance)
    return float(np.mean(distances)) if distances else 0.0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("label_dtype", [torch.uint8, torch.int64])
def test_local_consistency_equals_loops(norm, boundary, label_dtype):
    logits, labels = make_case(seed=3)
    value = L.local_consistency(logits, labels.to(label_dtype), norm, boundary).item()
    expected = loop_local_consistency(logits.double().numpy(), labels.numpy(), norm, boundary)
    assert value == pytest.approx(expected, rel=1e-5)


@given(arrays(np.uint8, (1, 4, 5), elements=st.sampled_from([0, 1, 2, 255])))
@settings(max_examples=60)
def test_boundaries_equal_loops(labels):
    for boundary in BOUNDARIES:
        mask = L.boundary_mask(torch.from_numpy(labels), boundary)
        expected = [loop_is_boundary(labels, *index, boundary) for index in np.ndindex(labels.shape)]
        assert mask.flatten().tolist() == expected


def test_official_boundary_has_its_three_quirks():
    flat = torch.ones(1, 5, 5, dtype=torch.int64)
    assert L.boundary_mask(flat, "official").sum() == 16  # the image border counts, unless the class is 0
    assert L.boundary_mask(flat - 1, "official").sum() == 0
    cancelling = torch.tensor([[[0, 1, 2]] * 3])
    assert not L.boundary_mask(cancelling, "official")[0, 1, 1]  # neighbours 0 and 2 cancel around 1
    assert L.boundary_mask(cancelling, "clean")[0, 1, 1]
    beside_ignored = flat.clone()
    beside_ignored[0, 2, 2] = 255
    assert L.boundary_mask(beside_ignored, "official")[0, 1, 1]
    assert not L.boundary_mask(beside_ignored, "clean").any()


@pytest.mark.parametrize("threshold", [0.02, 0.05, 0.3])
def test_negative_learning_equals_loops(threshold):
    logits, _ = make_case(seed=5)
    small = [p for p in loop_softmax(logits.double().numpy()).flatten() if p < threshold]
    assert len(small) > 10
    expected = np.mean([-math.log(1 - p + 1e-6) for p in small])
    assert L.negative_learning(logits, threshold).item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_equals_loops():
    logits, labels = make_case(seed=7)
    p = loop_softmax(logits.double().numpy())
    known = [(b, i, j) for b, i, j in np.ndindex(*labels.shape) if labels[b, i, j] != 255]
    expected = np.mean([-math.log(p[b, labels[b, i, j], i, j]) for b, i, j in known])
    assert L.cross_entropy(logits, labels.to(torch.uint8)).item() == pytest.approx(expected, rel=1e-5)


# --- gradients and empty sets ------------------------------------------------------------------------------


def balanced_focal(logits: Tensor, labels: Tensor) -> Tensor:
    counts = torch.bincount(labels.flatten(), minlength=256)[: logits.shape[1]]
    return L.cross_entropy(logits, labels, weights=L.balanced_weights(counts), focal=1.5)


LOSSES = {
    "cross_entropy": L.cross_entropy,
    "balanced_focal": balanced_focal,
    "ohem": lambda logits, labels: L.ohem_cross_entropy(logits, labels, share=0.3, threshold=0.4),
    "boundary_cross_entropy": L.boundary_cross_entropy,
    "dice": L.dice,
    "lovasz_softmax": L.lovasz_softmax,
    "negative_learning": lambda logits, labels: L.negative_learning(logits, threshold=0.3),
    **{
        f"local_consistency_{norm}_{boundary}": (
            lambda logits, labels, n=norm, b=boundary: L.local_consistency(logits, labels, n, b)
        )
        for norm in NORMS
        for boundary in BOUNDARIES
    },
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name):
    logits, labels = make_case(seed=11, shape=(1, 3, 3, 4), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, labels), logits.requires_grad_())


LABEL_LOSSES = ["cross_entropy", "balanced_focal", "ohem", "boundary_cross_entropy", "dice", "lovasz_softmax"]
EMPTY = {
    **{name: (lambda x, n=name: LOSSES[n](x, torch.full((2, 6, 7), 255))) for name in LABEL_LOSSES},
    "no_boundary_l1": lambda x: L.local_consistency(x, torch.full((2, 6, 7), 3)),
    "no_boundary_kl": lambda x: L.local_consistency(x, torch.full((2, 6, 7), 3), "kl"),
    "all_ignored": lambda x: L.local_consistency(x, torch.full((2, 6, 7), 255), boundary="official"),
    "nothing_under": lambda x: L.negative_learning(x, threshold=0.0),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_empty_set_is_a_differentiable_zero(name, scale):
    logits = (scale * make_case(seed=13)[0]).requires_grad_()
    loss = EMPTY[name](logits)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("name", LOSSES)
def test_certain_predictions_stay_finite(name):
    logits, labels = make_case(seed=17)
    logits = (1e4 * logits).requires_grad_()
    loss = LOSSES[name](logits, labels)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_negative_learning_pushes_small_probabilities_down():
    logits = torch.tensor([3.0, 0.0, -1.0]).reshape(1, 3, 1, 1).requires_grad_()
    L.negative_learning(logits, threshold=0.05).backward()
    (step,) = (-logits.grad).flatten()[2:]
    assert step < 0


# --- precision ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(name, dtype):
    logits, labels = make_case(seed=19)
    low = logits.to(dtype)
    value = LOSSES[name](low, labels)
    assert value.dtype == torch.float32
    assert value.item() == LOSSES[name](low.float(), labels).item()
    assert value.item() == pytest.approx(LOSSES[name](logits, labels).item(), rel=0.05)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_nothing(name):
    logits, labels = make_case(seed=19)
    expected = LOSSES[name](logits, labels)
    with torch.autocast("cpu", torch.bfloat16):
        value = LOSSES[name](logits, labels)
    assert torch.equal(value, expected)


# --- properties --------------------------------------------------------------------------------------------

seeds = st.integers(0, 2**31 - 1)


@given(seeds)
@settings(max_examples=30)
def test_l1_is_bounded_and_all_are_invariant_to_a_shift_of_logits(seed):
    logits, labels = make_case(seed)
    assert 0 <= L.local_consistency(logits, labels) <= 2
    for loss in LOSSES.values():
        torch.testing.assert_close(loss(logits + 5, labels), loss(logits, labels), rtol=1e-3, atol=1e-5)


@given(seeds, st.permutations(range(4)))
@settings(max_examples=30)
def test_renaming_classes_changes_nothing_but_the_official_boundary(seed, order):
    logits, labels = make_case(seed)
    renamed_labels = labels.clone()
    for new, old in enumerate(order):
        renamed_labels[labels == old] = new
    for name in set(LOSSES) - {"local_consistency_l1_official", "local_consistency_kl_official"}:
        renamed = LOSSES[name](logits[:, list(order)], renamed_labels)
        torch.testing.assert_close(renamed, LOSSES[name](logits, labels), rtol=1e-4, atol=1e-6)


@given(seeds)
@settings(max_examples=30)
def test_mirroring_changes_nothing(seed):
    logits, labels = make_case(seed)
    for loss in LOSSES.values():
        mirrored = loss(logits.flip(-1), labels.flip(-1))
        torch.testing.assert_close(mirrored, loss(logits, labels), rtol=1e-4, atol=1e-6)


def test_equal_predictions_everywhere_are_consistent():
    _, labels = make_case(seed=23)
    logits = torch.tensor([2.0, 0.5, -1.0, 0.0]).reshape(1, 4, 1, 1).expand(2, 4, 6, 7)
    assert L.local_consistency(logits, labels).item() == pytest.approx(0, abs=1e-6)


# --- wrong arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: L.cross_entropy(x[0], y), "logits: expected floating point"),
        (lambda x, y: L.cross_entropy(x.long(), y), "got torch.int64"),
        (lambda x, y: L.cross_entropy(x, y[0]), r"= \(2, 6, 7\) to match the logits, got \(6, 7\)"),
        (lambda x, y: L.cross_entropy(x, y.float()), "labels: expected uint8 or int64, got torch.float32"),
        (lambda x, y: L.local_consistency(x, y[:, 1:]), r"got \(2, 5, 7\)"),
        (lambda x, y: L.local_consistency(x, y, norm="l2"), "norm must be 'l1' or 'kl', got 'l2'"),
        (lambda x, y: L.local_consistency(x, y, boundary="all"), "boundary must be 'clean' or 'official'"),
        (lambda x, y: L.boundary_mask(y, "all"), "boundary must be 'clean' or 'official'"),
        (lambda x, y: L.negative_learning(y), "logits: expected floating point"),
        (lambda x, y: L.negative_learning(x, threshold=5), "negative_learning: threshold must be .* <= 1, got 5"),
    ],
)
def test_wrong_arguments_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call(*make_case(seed=29))


def test_import_needs_torch_alone():
    code = (
        "import sys, torch; before = set(sys.modules); import ripu_lightning.losses;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"ripu_lightning", "torch"}


# --- terms and their weighted sum --------------------------------------------------------------------------


@pytest.fixture
def outputs() -> StepOutputs:
    return StepOutputs(*make_case(seed=31), *make_case(seed=37), *make_case(seed=39))


def all_terms() -> dict[str, LossTerm]:
    return {
        "source_ce": SourceCrossEntropy(),
        "target_ce": TargetCrossEntropy(),
        "local_consistency": LocalConsistency("kl", "official"),
        "negative_learning": NegativeLearning(0.2),
    }


WEIGHTS = {"source_ce": 1.0, "target_ce": 0.5, "local_consistency": 0.1, "negative_learning": 2.0}


def test_total_is_the_weighted_sum_of_the_functions(outputs):
    total, values = WeightedLosses(all_terms(), WEIGHTS)(outputs)
    source = outputs.source_logits, outputs.source_labels
    expected = {
        "source_ce": L.cross_entropy(*source),
        "target_ce": L.cross_entropy(outputs.labelled_logits, outputs.labelled_labels),
        "local_consistency": L.local_consistency(*source, "kl", "official"),
        "negative_learning": L.negative_learning(outputs.target_logits, 0.2),
    }
    assert values == expected
    assert total.item() == pytest.approx(sum(WEIGHTS[k] * v.item() for k, v in expected.items()))


def test_values_are_detached_and_the_total_is_not(outputs):
    outputs.source_logits.requires_grad_()
    total, values = WeightedLosses(all_terms(), WEIGHTS)(outputs)
    assert total.requires_grad
    assert not any(value.requires_grad for value in values.values())


@pytest.mark.parametrize(
    ("weights", "domains"),
    [
        (WEIGHTS, {"source", "target", "labelled"}),
        (WEIGHTS | {"source_ce": 0, "local_consistency": 0}, {"target", "labelled"}),
        (WEIGHTS | {"target_ce": 0}, {"source", "target"}),
        (WEIGHTS | {"target_ce": 0, "negative_learning": 0}, {"source"}),
    ],
)
def test_terms_of_weight_zero_need_no_domain(outputs, weights, domains):
    losses = WeightedLosses(all_terms(), weights)
    given_ = {f"{d}_{kind}": getattr(outputs, f"{d}_{kind}") for d in domains for kind in ("logits", "labels")}
    total, values = losses(StepOutputs(**given_))
    assert losses.domains == domains
    assert set(values) == {name for name, weight in weights.items() if weight}
    assert total > 0


def test_a_missing_domain_is_named():
    with pytest.raises(ValueError, match=r"StepOutputs\.target_logits"):
        NegativeLearning()(StepOutputs(*make_case(seed=41)))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"source": 1.0}, "weights.source names no term; did you mean 'source_ce'"),
        ({"source_ce": -1.0, "target_ce": 1}, "weights.source_ce must be a number >= 0, got -1.0"),
        ({"source_ce": float("nan"), "target_ce": 1}, "weights.source_ce must .* nan"),
        ({"source_ce": float("inf"), "target_ce": 1}, "weights.source_ce must .* inf"),
        ({"source_ce": "much", "target_ce": 1}, "weights.source_ce must .* 'much'"),
        ({"source_ce": 1.0}, "terms.target_ce has no weight"),
        ({"source_ce": 0, "target_ce": 0.0}, "weights must have a value above 0"),
    ],
)
def test_wrong_weights(weights, message):
    terms = {"source_ce": SourceCrossEntropy(), "target_ce": TargetCrossEntropy()}
    with pytest.raises(UserError, match=message):
        WeightedLosses(terms, weights)


def test_a_term_must_be_a_loss_term():
    with pytest.raises(UserError, match=r"WeightedLosses: terms\.mine must be a LossTerm, got Linear"):
        WeightedLosses({"mine": torch.nn.Linear(1, 1)}, {"mine": 1.0})


def test_a_term_must_tell_its_domain():
    class Mine(LossTerm):
        pass

    with pytest.raises(UserError, match=r"terms\.mine .*Mine\.domain to one of source, target, labelled, mixed"):
        WeightedLosses({"mine": Mine()}, {"mine": 1.0})


def test_builds_from_a_hydra_config(outputs):
    from hydra.utils import instantiate

    package = "ripu_lightning.losses"
    config = {
        "_target_": f"{package}.WeightedLosses",
        "weights": {"source_ce": 1.0, "consistency": 0.1},
        "terms": {
            "source_ce": {"_target_": f"{package}.SourceCrossEntropy"},
            "consistency": {"_target_": f"{package}.LocalConsistency", "norm": "kl", "boundary": "official"},
        },
    }
    total, values = instantiate(config)(outputs)
    expected = L.local_consistency(outputs.source_logits, outputs.source_labels, "kl", "official")
    assert values["consistency"] == expected
    assert total == values["source_ce"] + 0.1 * expected
