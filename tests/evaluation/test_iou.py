"""IoU and accuracies against plain loops and sets of pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ripu_lightning.evaluation import SegmentationConfusion, class_iou, figures, iou_table, mean_iou, pixel_accuracy

IGNORE = 255


def set_iou(pairs, classes):
    """IoU by class over a list of (predicted, truth) images, from sets of pixels; NaN where the truth is empty."""
    found = []
    for index in range(classes):
        wanted, given_ = set(), set()
        for number, (predicted, truth) in enumerate(pairs):
            for place in np.ndindex(truth.shape):
                if truth[place] == IGNORE:
                    continue
                if truth[place] == index:
                    wanted.add((number, place))
                if predicted[place] == index:
                    given_.add((number, place))
        union = wanted | given_
        found.append(len(wanted & given_) / len(union) if wanted else math.nan)
    return found


def counted(pairs, classes):
    confusion = SegmentationConfusion(classes)
    for predicted, truth in pairs:
        confusion.add(torch.from_numpy(predicted), torch.from_numpy(truth))
    return confusion.compute()


def draw_pairs(seed, classes, images, used):
    """Random images of different sizes: ``used`` classes are predicted, most of them occur, some pixels are ignored."""
    rng = np.random.default_rng(seed)
    pool = rng.permutation(classes)[:used]
    pairs = []
    for _ in range(images):
        shape = tuple(rng.integers(1, 7, 2))
        predicted = rng.choice(pool, shape).astype(np.int64)
        truth = rng.choice(np.append(pool[: max(1, used - 1)], IGNORE), shape).astype(np.uint8)
        pairs.append((predicted, truth))
    return pairs


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 19), images=st.integers(1, 3), data=st.data())
def test_iou_is_that_of_pixel_sets_over_the_whole_set(seed, classes, images, data):
    pairs = draw_pairs(seed, classes, images, data.draw(st.integers(1, classes)))
    expected = set_iou(pairs, classes)
    confusion = counted(pairs, classes)
    assert class_iou(confusion).tolist() == pytest.approx(expected, nan_ok=True)
    present = [value for value in expected if not math.isnan(value)]
    mean = sum(present) / len(present) if present else math.nan
    assert mean_iou(confusion) == pytest.approx(mean, nan_ok=True)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 6))
def test_confusion_counts_like_a_loop(seed, classes):
    pairs = draw_pairs(seed, classes, 2, classes)
    expected = [[0] * classes for _ in range(classes)]
    for predicted, truth in pairs:
        for wanted, given_ in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
            if wanted != IGNORE:
                expected[wanted][given_] += 1
    assert counted(pairs, classes).tolist() == expected


def test_many_classes_do_not_overflow_the_labels_eight_bits():
    # 19 * 18 + 18 does not fit into the uint8 that truth is stored in.
    truth = np.arange(19, dtype=np.uint8).reshape(1, 19).repeat(3, axis=0)
    confusion = counted([(truth.astype(np.int64), truth)], 19)
    assert torch.equal(confusion, 3 * torch.eye(19, dtype=confusion.dtype))
    assert mean_iou(confusion) == 1.0


def test_one_matrix_over_the_set_is_not_the_mean_of_the_images():
    first = (np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 1]], dtype=np.uint8))
    second = (np.array([[1, 1]]), np.array([[1, 1]], dtype=np.uint8))
    assert class_iou(counted([first, second], 2)).tolist() == pytest.approx([3 / 4, 2 / 3])


def test_what_is_predicted_on_ignored_pixels_is_not_counted():
    truth = np.array([[0, 1, IGNORE, IGNORE]], dtype=np.uint8)
    results = [counted([(np.array([[0, 1, a, b]]), truth)], 3).tolist() for a, b in ((0, 1), (2, 2), (1, 0))]
    assert results[0] == results[1] == results[2] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_class_without_truth_counts_in_no_mean_whatever_is_predicted():
    """Means of two networks on the same data are over the same classes."""
    truth = np.array([[0, 0, 1, 1]], dtype=np.uint8)
    inventing, careful = np.array([[0, 2, 1, 1]]), np.array([[0, 1, 1, 1]])
    subsets = {"late": ["bus", "train"], "early": ["road", "bus"]}
    names = ["road", "car", "bus", "train"]
    found = [figures(counted([(predicted, truth)], 4), names, subsets) for predicted in (inventing, careful)]
    for each in found:
        assert [name for name in names if math.isnan(each[f"iou/{name}"])] == ["bus", "train"]
        assert each["miou"] == pytest.approx((each["iou/road"] + each["iou/car"]) / 2)
        assert math.isnan(each["miou_late"])
        assert each["miou_early"] == each["iou/road"]
    assert found[0]["iou/road"] == 1 / 2  # the pixel that was taken for a bus is missed


def test_absent_and_missed_classes():
    truth, predicted = np.array([[0, 0, 1]], dtype=np.uint8), np.array([[0, 2, 2]])
    table = iou_table(counted([(predicted, truth)], 4), ["hit", "missed", "invented", "absent"])
    assert list(table) == ["hit", "missed", "invented", "absent"]
    # A missed class counts as 0; one without truth does not count, even where it is predicted.
    assert list(table.values()) == pytest.approx([0.5, 0.0, math.nan, math.nan], nan_ok=True)
    assert mean_iou(counted([(predicted, truth)], 4)) == pytest.approx(0.5 / 2)


def test_nothing_but_ignored_pixels_is_nan():
    confusion = counted([(np.array([[1, 0]]), np.full((1, 2), IGNORE, dtype=np.uint8))], 2)
    assert math.isnan(mean_iou(confusion))


def test_large_counts_stay_exact():
    # float32 counts would lose pixels beyond 2**24.
    confusion = torch.tensor([[2**25 + 1, 1], [0, 3]])
    assert class_iou(confusion)[0].item() == (2**25 + 1) / (2**25 + 2)


def shares_found(pairs, classes):
    """Of each class's pixels the share that is found, and of all pixels; NaN where there are none."""
    wanted, found = [0] * classes, [0] * classes
    for predicted, truth in pairs:
        for place in np.ndindex(truth.shape):
            if truth[place] != IGNORE:
                wanted[truth[place]] += 1
                found[truth[place]] += int(predicted[place] == truth[place])
    shares = [hit / all_ if all_ else math.nan for hit, all_ in zip(found, wanted, strict=True)]
    return shares, sum(found) / sum(wanted) if sum(wanted) else math.nan


def mean_of(values):
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 8), images=st.integers(1, 3), data=st.data())
def test_figures_are_those_of_loops_over_pixels(seed, classes, images, data):
    pairs = draw_pairs(seed, classes, images, data.draw(st.integers(1, classes)))
    names = [f"class {index}" for index in range(classes)]
    subset = data.draw(st.lists(st.integers(0, classes - 1), min_size=1, unique=True))
    found = figures(counted(pairs, classes), names, {"some": [names[index] for index in subset]})
    iou, (recall, accuracy) = set_iou(pairs, classes), shares_found(pairs, classes)
    expected = {
        "miou": mean_of(iou),
        "miou_some": mean_of([iou[index] for index in subset]),
        "pixel_accuracy": accuracy,
        "class_accuracy": mean_of(recall),
        **{f"iou/{name}": value for name, value in zip(names, iou, strict=True)},
    }
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, nan_ok=True)


def test_accuracy_of_large_counts_stays_exact():
    assert pixel_accuracy(torch.tensor([[2**25 + 1, 1], [0, 3]])) == (2**25 + 4) / (2**25 + 5)
