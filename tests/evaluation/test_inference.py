"""How predictions are made, against plain loops over views and pixels."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import interpolate

import tiny
from ripu_lightning.errors import UserError
from ripu_lightning.evaluation import Inference
from ripu_lightning.networks.contract import SegmentationOutput


def resized(values, size):
    return interpolate(values.float(), size=tuple(size), mode="bilinear", align_corners=True)


def network():
    torch.manual_seed(0)
    return tiny.TwoConvs().eval()


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


class Pixelwise(nn.Module):
    """Looks at each pixel alone: neither windows nor mirrors can change what it says."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, images):
        logits = 3 * self.layer(images)
        return SegmentationOutput(logits, logits)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def view_probabilities(model, image, size=None):
    """Class probabilities ``(C, H, W)`` of one view, at its own size unless another is given."""
    return resized(model(image[None]).logits, size or image.shape[-2:]).softmax(1)[0]


def probabilities(inference, model, images):
    """``(B, C, h, w)`` at the size of the images."""
    size = tuple(images.shape[-2:])
    return torch.stack(list(inference.probabilities(model, images, [size] * len(images))))


def test_plain_is_logits_at_the_labels_size():
    model, images, sizes = network(), drawn(2, 3, 12, 16), [(24, 30), (12, 16)]
    logits = model(images).logits
    expected = [resized(logits[index : index + 1], size).argmax(1)[0] for index, size in enumerate(sizes)]
    found = list(Inference().predict(model, images, sizes))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_mirror_averages_probabilities_at_the_labels_size():
    """As the public code: logits from their stride to the label's size, softmax, mean of the image and its mirror."""
    model, images, size = network(), 2 * drawn(2, 3, 11, 15), (23, 31)
    found = list(Inference(mirror=True).predict(model, images, [size, size]))
    for image, predicted in zip(images, found, strict=True):
        mirrored = view_probabilities(model, image.flip(-1), size).flip(-1)
        mean = (view_probabilities(model, image, size) + mirrored) / 2
        assert torch.equal(predicted, mean.argmax(0))
    assert not torch.equal(found[0], next(Inference().predict(model, images, [size])))


def test_mirrored_input_gives_the_mirrored_prediction():
    model, images = network(), drawn(1, 3, 11, 15)
    straight = probabilities(Inference(mirror=True), model, images)
    turned = probabilities(Inference(mirror=True), model, images.flip(-1))
    assert torch.allclose(straight, turned.flip(-1), atol=1e-6)


def test_scales_average_probabilities_of_the_resized_input():
    model, images = network(), drawn(2, 3, 12, 20)
    found = probabilities(Inference(mirror=True, scales=[0.5, 1, 1.25]), model, images)
    for image, mean in zip(images, found, strict=True):
        total = torch.zeros(3, 12, 20)
        for size in ((6, 10), (12, 20), (15, 25)):
            view = resized(image[None], size)[0]
            mirrored = view_probabilities(model, view.flip(-1), (12, 20)).flip(-1)
            total += view_probabilities(model, view, (12, 20)) + mirrored
        assert torch.allclose(mean, total / 6, atol=1e-6)


def starts(length, window, overlap):
    """Window by window until the end is reached; the last one is pushed back inside."""
    found, at = [], 0
    while at + window < length:
        found.append(at)
        at += max(1, int(window * (1 - overlap)))
    return [*found, length - window]


@settings(max_examples=25)
@given(
    height=st.integers(4, 14),
    width=st.integers(4, 14),
    window=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.9]),
)
def test_each_pixel_has_the_mean_over_the_windows_that_hold_it(height, width, window, overlap):
    model, image = network(), drawn(3, height, width)
    found = probabilities(Inference(window=window, overlap=overlap), model, image[None])[0]
    rows, columns = min(window[0], height), min(window[1], width)
    total, count = torch.zeros(3, height, width), torch.zeros(height, width)
    for top in starts(height, rows, overlap):
        for left in starts(width, columns, overlap):
            part = view_probabilities(model, image[:, top : top + rows, left : left + columns])
            for row in range(rows):
                for column in range(columns):
                    total[:, top + row, left + column] += part[:, row, column]
                    count[top + row, left + column] += 1
    assert count.min() >= 1
    assert torch.allclose(found, total / count, atol=1e-6)


@settings(max_examples=25)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    window=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    overlap=st.floats(0, 0.95),
    mirror=st.booleans(),
)
def test_windows_and_mirrors_change_nothing_for_a_network_without_surroundings(size, window, overlap, mirror):
    model, images = Pixelwise(), drawn(2, 3, *size)
    found = probabilities(Inference(mirror, [1], window, overlap), model, images)
    assert torch.allclose(found, model(images).logits.softmax(1), atol=1e-6)


def test_what_windows_saw_is_brought_to_the_labels_size():
    model, images, size = network(), 2 * drawn(1, 3, 12, 16), (25, 31)
    inference = Inference(mirror=True, window=[8, 8])
    small = probabilities(inference, model, images)
    assert torch.allclose(next(inference.probabilities(model, images, [size])), resized(small, size)[0], atol=1e-6)


@settings(max_examples=25)
@given(length=st.integers(1, 60), window=st.integers(1, 30), overlap=st.floats(0, 0.95))
def test_windows_stay_inside_and_share_what_they_should(length, window, overlap):
    seen = []

    def model(images):
        assert len(images) <= 4
        seen.extend((int(image[0, 0, 0]), images.shape[-1]) for image in images)
        return SegmentationOutput(torch.ones(len(images), 2, 1, images.shape[-1]), images)

    ramp = torch.arange(length, dtype=torch.float32).expand(1, 3, 1, length)
    probabilities(Inference(window=(1, window), overlap=overlap), model, ramp)
    width = min(window, length)
    assert {size for _, size in seen} == {width}
    lefts = [left for left, _ in seen]
    assert lefts[0] == 0
    assert lefts[-1] == length - width
    for left, following in pairwise(lefts):
        # At least one pixel forward, and at least the share seen again.
        assert left < following <= left + max(1, width * (1 - overlap))


def test_an_image_in_a_batch_is_predicted_as_alone():
    model, images, sizes = network(), drawn(3, 3, 12, 16), [(24, 32), (12, 16), (9, 40)]
    inference = Inference(mirror=True, scales=[0.75, 1], window=[8, 8])
    together = probabilities(inference, model, images)
    alone = [probabilities(inference, model, image[None])[0] for image in images]
    assert torch.allclose(together, torch.stack(alone), atol=1e-6)
    assert [tuple(predicted.shape) for predicted in inference.predict(model, images, sizes)] == sizes


def test_half_precision_is_averaged_in_full():
    model, images = network().bfloat16(), drawn(1, 3, 12, 16).bfloat16()
    found = probabilities(Inference(mirror=True, scales=[0.5, 1]), model, images)
    assert found.dtype == torch.float32
    assert torch.allclose(found.sum(1), torch.ones(1, 12, 16), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        ({}, ""),
        ({"overlap": 0.2}, ""),
        ({"mirror": True}, "mirrored"),
        ({"mirror": True, "scales": [0.75, 1, 1.25]}, "mirrored, scales 0.75 1 1.25"),
        ({"window": [512, 256], "overlap": 0.25}, "window 512x256 overlap 0.25"),
    ],
)
def test_title_and_settings(arguments, title):
    inference = Inference(**arguments)
    assert inference.title == title
    assert inference.is_plain == (title == "")
    assert inference.as_dict()["title"] == (title or "plain")


def test_settings_are_equal_where_predictions_are():
    assert Inference(overlap=0.1).as_dict() == Inference(scales=[1], overlap=0.9).as_dict()
    assert Inference(window=[9, 9], window_batch=1).as_dict() == Inference(window=[9, 9], window_batch=8).as_dict()
    assert Inference(window=[9, 9], overlap=0.1).as_dict() != Inference(window=(9, 9), overlap=0.9).as_dict()


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"mirror": "yes"}, "mirror"),
        ({"scales": []}, "scales"),
        ({"scales": 1.5}, "scales"),
        ({"scales": "12"}, "scales"),
        ({"scales": [1, 0]}, "scales"),
        ({"scales": [1, True]}, "scales"),
        ({"scales": [float("nan")]}, "scales"),
        ({"window": 512}, "window"),
        ({"window": [512]}, "window"),
        ({"window": [0, 512]}, "window"),
        ({"window": [512.0, 512]}, "window"),
        ({"overlap": 1}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"overlap": None}, "overlap"),
        ({"window_batch": 0}, "window_batch"),
    ],
)
def test_values_out_of_range(arguments, key):
    with pytest.raises(UserError, match=f"^Inference: {key} must be"):
        Inference(**arguments)
