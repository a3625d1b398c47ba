"""Sliding windows against a loop over single windows, and acquisition with them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import interpolate

import tiny
from ripu_lightning.acquisition import get_strategy
from ripu_lightning.errors import UserError
from ripu_lightning.evaluation import SlidingWindow
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.training.eval_mode import evaluating
from ripu_lightning.training.pool_inference import PoolInference, require_outputs

SIDE = st.integers(1, 14)


def outputs(network):
    return lambda images: tuple(network(images))


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


class Pixelwise(nn.Module):
    """Looks at each pixel alone: windows cannot change what it gives."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.features, self.head = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 3, 1)

    def forward(self, images):
        features = self.features(images)
        return SegmentationOutput(self.head(features), features)


@given(height=SIDE, width=SIDE, window=st.tuples(SIDE, SIDE), overlap=st.floats(0, 0.9), batch=st.integers(1, 5))
def test_a_pixelwise_network_gives_what_one_pass_gives(height, width, window, overlap, batch):
    network, images = Pixelwise(), drawn(2, 3, height, width)
    with torch.no_grad():
        probabilities, features = SlidingWindow(window, overlap, batch).run(outputs(network), images)
        plain = network(images)
    torch.testing.assert_close(probabilities, plain.logits.softmax(1))
    torch.testing.assert_close(features, plain.features)


def test_disjoint_windows_of_a_pixelwise_network_give_the_same_bits():
    network, images = Pixelwise(), drawn(1, 3, 12, 16)
    with torch.no_grad():
        probabilities, features = SlidingWindow((4, 8), overlap=0, batch=1).run(outputs(network), images)
        parts = [[network(images[..., y : y + 4, x : x + 8]) for x in (0, 8)] for y in (0, 4, 8)]
    whole = [torch.cat([torch.cat([part[of] for part in row], -1) for row in parts], -2) for of in (0, 1)]
    assert torch.equal(probabilities, whole[0].softmax(1))
    assert torch.equal(features, whole[1])


class Blocks(nn.Module):
    """Means of blocks of 4 x 4 pixels: features and logits at stride 4."""

    def forward(self, images):
        features = nn.functional.avg_pool2d(images, 4)
        return SegmentationOutput(features * 2, features)


@pytest.mark.parametrize("batch", [1, 3])
def test_windows_of_a_strided_network_are_averaged_cell_by_cell(batch):
    """Windows on multiples of the stride: each cell of the features has the mean over the windows that hold it."""
    images, network = drawn(1, 3, 16, 20), Blocks()
    probabilities, features = SlidingWindow((8, 12), 0.5, batch).run(outputs(network), images)
    total, cells = torch.zeros(3, 16, 20), torch.zeros(3, 4, 5)
    counts, held = torch.zeros(16, 20), torch.zeros(4, 5)
    for top in (0, 4, 8):
        for left in (0, 6, 8):
            part = network(images[..., top : top + 8, left : left + 12])
            full = interpolate(part.logits, size=(8, 12), mode="bilinear", align_corners=True).softmax(1)[0]
            total[:, top : top + 8, left : left + 12] += full
            counts[top : top + 8, left : left + 12] += 1
            row, column = top // 4, round(left / 4)  # 6 is between two cells
            cells[:, row : row + 2, column : column + 3] += part.features[0]
            held[row : row + 2, column : column + 3] += 1
    torch.testing.assert_close(probabilities[0], total / counts)
    torch.testing.assert_close(features[0], cells / held)


@given(length=st.integers(1, 90), window=st.integers(1, 40), stride=st.integers(1, 16), overlap=st.floats(0, 0.95))
def test_no_cell_of_the_features_is_left_out(length, window, stride, overlap):
    def network(images):
        size = 1, -(-images.shape[-1] // stride)
        return images.new_ones(len(images), 2, *size), images.new_ones(len(images), 1, *size)

    _, features = SlidingWindow((1, window), overlap).run(network, torch.zeros(1, 3, 1, length))
    assert bool((features == 1).all())
    assert abs(features.shape[-1] - length / stride) <= 1 + length / min(window, length)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"size": 512}, "size"),
        ({"size": [512, 0]}, "size"),
        ({"size": "ab"}, "size"),
        ({"size": [8, 8], "overlap": 1}, "overlap"),
        ({"size": [8, 8], "batch": 0}, "batch"),
    ],
)
def test_values_out_of_range(arguments, key):
    with pytest.raises(UserError, match=f"^SlidingWindow: {key} must be"):
        SlidingWindow(**arguments)


class Pixels(nn.Module):
    """A pixelwise network with dropout, as the loop sees one."""

    def __init__(self):
        super().__init__()
        self.num_classes, self.backbone, self.head = 3, nn.Conv2d(3, 5, 1), nn.Conv2d(5, 3, 1)

    def forward(self, images):
        features = self.backbone(images)
        return SegmentationOutput(self.head(nn.functional.relu(features)), features)


def inference(tmp_path, network, strategy="ripu", window=None, **options):
    data, module = tiny.datamodule(**options), tiny.module()
    torch.manual_seed(3)
    module.network = network
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path, data))
    return data, PoolInference(trainer, module, get_strategy(strategy), 1, 0, window=window)


def images(found, data):
    with evaluating(found.module):
        return list(found.run(data.pool_dataloader(), None, "test"))


@pytest.mark.parametrize("strategy", ["ripu", "core_set"])
def test_acquisition_with_windows(tmp_path, strategy):
    data, windowed = inference(tmp_path, Pixels(), strategy, SlidingWindow((16, 16)))
    require_outputs(windowed, data)
    plain = images(replace(windowed, window=None), data)
    for image, other in zip(images(windowed, data), plain, strict=True):
        torch.testing.assert_close(image.inputs.logits, other.inputs.logits.log_softmax(1), atol=1e-5, rtol=1e-5)
        assert (image.inputs.features is None) == (strategy == "ripu")
        if image.inputs.features is not None:
            torch.testing.assert_close(image.inputs.features, other.inputs.features)


def test_probabilities_of_0_have_finite_logits_and_faults_are_seen(tmp_path):
    class Sure(Pixels):
        value = 500.0

        def forward(self, images):
            logits = images.new_zeros(len(images), 3, *images.shape[-2:])
            logits[:, 1] = self.value
            return SegmentationOutput(logits, images)

    network = Sure()
    data, windowed = inference(tmp_path, network, window=SlidingWindow((8, 8)))
    for image in images(windowed, data):
        assert bool(image.inputs.logits.isfinite().all())
        expected = torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1, 1).expand_as(image.inputs.logits)
        torch.testing.assert_close(image.inputs.logits.softmax(1), expected)
    network.value = float("inf")
    with pytest.raises(UserError, match="NaN or infinite"):
        images(windowed, data)


def test_one_window_is_looked_at_before_training(tmp_path):
    class Bounded(Pixels):
        def forward(self, images):
            assert images.shape[-2:] == (8, 16), images.shape
            return SegmentationOutput(images[:, :2], images)

    data, windowed = inference(tmp_path, Bounded(), window=SlidingWindow((8, 16)))
    with pytest.raises(
        UserError, match=r"forward: expected logits \(B, 3, h, w\), a channel a class, got \(1, 2, 8, 16\)"
    ):
        require_outputs(windowed, data)


def test_the_loop_scores_with_windows(tmp_path):
    seen = set()

    class Watched(Pixels):
        def forward(self, images):
            if not self.training:
                seen.add(tuple(images.shape))
            return super().forward(images)

    data, module = tiny.datamodule(2, target_size=[16, 32]), tiny.module()
    module.network = Watched()
    active = tiny.loop(tmp_path, data, rounds=1, window=SlidingWindow((16, 20), batch=1))
    tiny.trainer(tmp_path, active, limit_val_batches=0).fit(module, datamodule=data)
    assert active.scored == 1
    assert seen == {(1, 3, 16, 20)}
