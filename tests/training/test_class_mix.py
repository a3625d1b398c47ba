"""Pasting source classes into target images, by brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ripu_lightning.data.pools import TrainBatch
from ripu_lightning.training.class_mix import choose_classes, class_mix

seeds = st.integers(0, 2**63 - 1)
label_maps = arrays(np.uint8, (2, 4, 5), elements=st.sampled_from([0, 1, 2, 7, 18, 254, 255]))


def batch(seed: int, height: int = 8, width: int = 10, known: float = 0.9) -> TrainBatch:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(5, (3, height, width), generator=generator, dtype=torch.uint8)
    label[torch.rand(label.shape, generator=generator) >= known] = 255
    return TrainBatch(image=torch.randn(3, 3, height, width, generator=generator), label=label)


@given(label_maps, seeds)
@settings(max_examples=60)
def test_half_of_the_classes_rounded_up_and_never_void(labels: np.ndarray, seed: int) -> None:
    chosen = choose_classes(torch.from_numpy(labels), seed)
    for row, label in zip(chosen, labels, strict=True):
        present = set(np.unique(label).tolist()) - {255}
        picked = set(row.nonzero().flatten().tolist())
        assert picked <= present
        assert len(picked) == -(-len(present) // 2)


def test_every_class_has_the_same_chance() -> None:
    label = torch.tensor([[[0, 1, 2, 3, 255, 255]]], dtype=torch.uint8)
    counts = sum(choose_classes(label, seed)[0, :4].int() for seed in range(400))
    assert counts.sum() == 800
    assert (counts - 200).abs().max() < 50  # five standard deviations


def test_every_image_draws_its_own() -> None:
    labels = torch.arange(16, dtype=torch.uint8).expand(8, 1, 16)
    assert len(choose_classes(labels, seed=0).unique(dim=0)) == 8


@pytest.mark.parametrize("seed", range(3))
def test_pixels_and_labels_equal_loops(seed: int) -> None:
    source, target = batch(seed), batch(seed + 10, known=0.2)
    mixed, chosen = class_mix(source, target, seed), choose_classes(source["label"], seed)
    pasted = 0
    for b, i, j in np.ndindex(3, 8, 10):
        label = int(source["label"][b, i, j])
        origin = source if label != 255 and chosen[b, label] else target
        pasted += origin is source
        assert torch.equal(mixed["image"][b, :, i, j], origin["image"][b, :, i, j])
        assert mixed["label"][b, i, j] == origin["label"][b, i, j]
    assert 0 < pasted < 3 * 8 * 10


def test_the_seed_decides() -> None:
    source, target = batch(1), batch(2)
    images = [class_mix(source, target, seed)["image"] for seed in (5, 5, 6)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.parametrize("factor", [2, 3])
def test_a_larger_source_is_resized_to_the_target(factor: int) -> None:
    small, target = batch(3), batch(4, known=0.2)
    large = TrainBatch(
        image=small["image"].repeat_interleave(factor, 2).repeat_interleave(factor, 3),
        label=small["label"].repeat_interleave(factor, 1).repeat_interleave(factor, 2),
    )
    mixed, expected = class_mix(large, target, 0), class_mix(small, target, 0)
    assert torch.equal(mixed["label"], expected["label"])
    torch.testing.assert_close(mixed["image"], expected["image"])


def test_labels_of_any_size_are_sampled_at_pixel_centres() -> None:
    """Of 9 rows onto 8 each takes the row that its centre lies in, and so does each column."""
    source, target = batch(7, height=9, width=15, known=1.0), batch(8, known=0.0)
    mixed = class_mix(source, target, 0)["label"]
    rows, columns = ((torch.arange(8) + 0.5) * 9 / 8).long(), ((torch.arange(10) + 0.5) * 15 / 10).long()
    sampled = source["label"][:, rows][:, :, columns]
    pasted = mixed != 255
    assert 0.2 < pasted.float().mean() < 0.8
    assert torch.equal(mixed[pasted], sampled[pasted])


def test_published_sizes_fit() -> None:
    source, target = batch(5, height=18, width=32), batch(6, height=16, width=32)
    mixed = class_mix(source, target, 0)
    assert mixed["image"].shape == (3, 3, 16, 32)
    assert mixed["label"].shape == (3, 16, 32)
    assert mixed["label"].dtype == torch.uint8
