"""Random crops against a plain loop over pixels, on images whose pixels tell where they come from."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import tiny
from ripu_lightning.data import ActiveDataModule, wrap_dataset
from ripu_lightning.data.crops import RandomCrop, inverse_frequency
from ripu_lightning.data.resizing import resize_mask
from ripu_lightning.data.transforms import Transform
from ripu_lightning.errors import UserError
from ripu_lightning.labels import QueriedLabels, Stage

Bytes = npt.NDArray[np.uint8]
FILL = (7, 99, 3)
SIDES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def coordinates(height: int, width: int) -> tuple[Bytes, Bytes]:
    """An image whose pixels hold (row, column, 200), and a mask whose pixels hold row * width + column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.full_like(rows, 200)], axis=2), rows * np.uint8(width) + columns


@given(size=SIDES, crop=SIDES, seed=st.integers(0, 2**63 - 1))
def test_without_scaling_every_pixel_is_a_copy_or_outside(
    size: tuple[int, int], crop: tuple[int, int], seed: int
) -> None:
    image, mask = coordinates(*size)
    pixels, labels = RandomCrop(crop, fill=FILL)(image, mask, seed)
    assert (pixels.shape, labels.shape) == ((*crop, 3), crop)
    inside = [(row, column) for row in range(crop[0]) for column in range(crop[1]) if pixels[row, column, 2] == 200]
    top, left = (int(pixels[inside[0]][axis]) - inside[0][axis] for axis in range(2))
    for row in range(crop[0]):
        for column in range(crop[1]):
            source = row + top, column + left
            if 0 <= source[0] < size[0] and 0 <= source[1] < size[1]:
                assert tuple(pixels[row, column]) == (*source, 200)
                assert labels[row, column] == mask[source]
            else:
                assert tuple(pixels[row, column]) == FILL
                assert labels[row, column] == 255
    # An image at least as large as the crop fills it; a smaller one is complete.
    assert len(inside) == min(size[0], crop[0]) * min(size[1], crop[1])


@given(size=SIDES, crop=SIDES, factor=st.sampled_from([0.3, 0.5, 0.77, 1.0, 1.5, 2.9]), seed=st.integers(0, 999))
@example(size=(9, 10), crop=(8, 4), factor=1.5, seed=0)
def test_the_part_is_that_of_the_resized_image(
    size: tuple[int, int], crop: tuple[int, int], factor: float, seed: int
) -> None:
    """Resized completely by Pillow, bilinear with antialiasing, and cut out then."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = coordinates(*size)[1]
    scaled = [max(1, round(side * factor)) for side in size]
    full = np.array(Image.fromarray(image).resize(scaled[::-1], Image.Resampling.BILINEAR)).astype(int)
    near = np.array(Image.fromarray(mask).resize(scaled[::-1], Image.Resampling.NEAREST))
    pixels, labels = RandomCrop(crop, (factor, factor), fill=FILL)(image, mask, seed)
    fits = [
        (top, left)
        for top in range(min(0, scaled[0] - crop[0]), max(0, scaled[0] - crop[0]) + 1)
        for left in range(min(0, scaled[1] - crop[1]), max(0, scaled[1] - crop[1]) + 1)
        if same_part(pixels, labels, full, near, top, left)
    ]
    assert fits


def same_part(pixels: Bytes, labels: Bytes, full: npt.NDArray[np.int64], near: Bytes, top: int, left: int) -> bool:
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            y, x = row + top, column + left
            inside = 0 <= y < near.shape[0] and 0 <= x < near.shape[1]
            label, pixel = (near[y, x], full[y, x]) if inside else (255, FILL)
            # Pillow resizes one axis after the other and rounds each time, so that two roundings may differ.
            if labels[row, column] != label or np.abs(pixels[row, column].astype(int) - pixel).max() > 2:
                return False
    return True


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("flip", [False, True])
def test_image_and_mask_stay_aligned_when_scaled_flipped_and_padded(factor: float, flip: bool) -> None:
    """White where the mask is 1: at whole factors on blocks of two pixels there is nothing between them."""
    mask = np.random.default_rng(1).integers(0, 2, (8, 10), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
    image = (255 * mask)[..., None].repeat(3, axis=2)
    crop = RandomCrop((40, 200), (factor, factor), fill=(90, 90, 90))
    for seed in range(6):
        pixels, labels = Transform(["flip"] if flip else (), None, None)(*crop(image, mask, seed), seed)
        for label, value in ((0, 0), (1, 255), (255, 90)):
            away = np.abs(255 * pixels.numpy() - value).max(axis=0)[labels.numpy() == label]
            assert (away < 128).mean() > (0.9 if label < 2 else 0.999)


@pytest.mark.parametrize(("size", "crop"), [((5, 7), (3, 4)), ((3, 4), (5, 7)), ((5, 4), (5, 7))])
def test_every_place_is_equally_likely(size: tuple[int, int], crop: tuple[int, int]) -> None:
    image, mask = coordinates(*size)
    found: Counter[tuple[int, int]] = Counter()
    for seed in range(3000):
        pixels, _ = RandomCrop(crop, fill=FILL)(image, mask, seed)
        row, column = np.argwhere(pixels[..., 2] == 200)[0]
        found[int(pixels[row, column, 0]) - int(row), int(pixels[row, column, 1]) - int(column)] += 1
    places = [range(min(0, side - length), max(0, side - length) + 1) for side, length in zip(size, crop, strict=True)]
    assert set(found) == {(top, left) for top in places[0] for left in places[1]}
    expected = 3000 / len(found)
    assert sum((count - expected) ** 2 / expected for count in found.values()) < 40  # at most 14 degrees of freedom


def test_labelled_crops_contain_each_labelled_pixel_anywhere_and_equally_often() -> None:
    image = coordinates(20, 20)[0]
    mask = np.full((20, 20), 255, dtype=np.uint8)
    mask[9, 9], mask[0, 19] = 1, 2
    places, seen = set(), Counter[int]()
    for seed in range(2000):
        pixels, labels = RandomCrop((4, 4), at="labelled")(image, mask, seed)
        ((row, column),) = np.argwhere(labels != 255)
        seen[int(labels[row, column])] += 1
        assert tuple(pixels[row, column, :2]) == ((9, 9) if labels[row, column] == 1 else (0, 19))
        if labels[row, column] == 1:
            places.add((int(row), int(column)))
    assert places == {(row, column) for row in range(4) for column in range(4)}
    assert abs(seen[1] - 1000) < 150


@given(
    size=SIDES,
    crop=SIDES,
    factors=st.sampled_from([(1.0, 1.0), (0.5, 2.0), (1.0, 3.0)]),
    seed=st.integers(0, 2**63 - 1),
    data=st.data(),
)
def test_a_labelled_pixel_is_always_inside(
    size: tuple[int, int], crop: tuple[int, int], factors: tuple[float, float], seed: int, data: st.DataObject
) -> None:
    image, mask = coordinates(*size)
    row, column = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    alone = np.where(mask == mask[row, column], np.uint8(3), np.uint8(255))
    _, labels = RandomCrop(crop, factors, "labelled")(image, alone, seed)
    factor = np.random.default_rng(seed).uniform(*factors)
    scaled = tuple(max(1, round(side * factor)) for side in size)
    kept = bool((resize_mask(alone, scaled) != 255).any())  # nearest may drop a pixel where it shrinks
    assert bool((labels != 255).any()) == kept
    nothing = np.full(size, 255, dtype=np.uint8)
    assert RandomCrop(crop, factors, "labelled")(image, nothing, seed)[1].shape == crop


def test_class_aware_crops_draw_classes_by_their_weights() -> None:
    image = coordinates(30, 30)[0]
    mask = np.zeros((30, 30), dtype=np.uint8)
    mask[25, 3], mask[2, 20] = 1, 2  # one pixel each of two rare classes
    pixels = np.array([[960, 30, 10], [0, 0, 0]])
    weights = inverse_frequency(pixels)
    np.testing.assert_allclose(weights, 1000 / pixels.sum(axis=0))
    count = Counter[int]()
    for seed in range(1500):
        _, labels = RandomCrop((3, 3), at="class_aware", class_weights=weights)(image, mask, seed)
        assert labels.max() in (0, 1, 2)
        count[int(labels.max())] += 1
    shares = weights / weights.sum()
    for label, share in enumerate(shares):
        assert abs(count[label] / 1500 - share) < 0.05
    even = [RandomCrop((3, 3), at="class_aware")(image, mask, seed)[1].max() for seed in range(300)]
    assert all(60 < even.count(label) < 140 for label in range(3))
    void = np.full((30, 30), 255, dtype=np.uint8)
    assert RandomCrop((3, 3), at="class_aware")(image, void, 0)[1].tolist() == [[255] * 3] * 3


def module(**options: Any) -> ActiveDataModule:
    return tiny.datamodule(**{"source_crop": [8, 12], "target_crop": [10, 6], **options})


def batches(data: ActiveDataModule, rank: int = 0, world_size: int = 1, labels: Any = None) -> list[Any]:
    data.begin_stage(Stage(0, 0, 4, labels or QueriedLabels(None, 0)))
    data.trainer = SimpleNamespace(global_step=0, global_rank=rank, world_size=world_size, accumulate_grad_batches=1)
    return [data.on_after_batch_transfer(batch, 0) for batch, _, _ in data.train_dataloader()]


OPTIONS: dict[str, Any] = {
    "scale_range": [0.5, 2.0],
    "source_crop_at": "class_aware",
    "target_crop_at": "labelled",
    "target_labels": "all",
    "augment": ["flip", "scale", "color", "blur"],
}


def test_one_crop_is_that_of_each_domain_without_its_own() -> None:
    both, own = (batches(tiny.datamodule(crop=[8, 12], **more)) for more in ({}, {"target_crop": [10, 6]}))
    assert {name: tuple(both[0][name]["label"].shape) for name in ("source", "target")} == dict.fromkeys(
        ("source", "target"), (2, 8, 12)
    )
    assert tuple(own[0]["source"]["label"].shape) == (2, 8, 12)
    assert tuple(own[0]["target"]["label"].shape) == (2, 10, 6)


def test_crops_do_not_depend_on_workers_or_ranks() -> None:
    alone = batches(module(**OPTIONS))
    assert [tuple(alone[0][name]["label"].shape) for name in ("source", "target")] == [(2, 8, 12), (2, 10, 6)]
    workers = batches(module(**OPTIONS, num_workers=2))
    ranks = [batches(module(**{**OPTIONS, "batch_size": 1}), rank, 2) for rank in range(2)]
    other = batches(module(**OPTIONS, seed=1))
    for step, batch in enumerate(alone):
        for name in ("source", "target"):
            for key in ("image", "label"):
                assert (batch[name][key] == workers[step][name][key]).all()
                assert all((batch[name][key][rank] == ranks[rank][step][name][key][0]).all() for rank in range(2))
    assert not all(
        (one["source"]["image"] == two["source"]["image"]).all() for one, two in zip(alone, other, strict=True)
    )


class OnePixel(SimpleNamespace):
    """Labels of a stage: one pixel of some images."""

    def mask(self, image_id: str) -> Bytes:
        mask = np.full((24, 32), 255, dtype=np.uint8)
        mask[13, 29] = 1
        return mask


@pytest.mark.parametrize("queried", [2, 5])
def test_labelled_crops_are_those_of_the_labelled_part(queried: int) -> None:
    data = module(target_crop=[6, 6], target_crop_at="labelled", batch_size=4)
    labels = OnePixel(image_ids=data.target.ids[:queried])
    seen = {"labelled": [], "target": []}
    for batch in batches(data, labels=labels):
        for name, counts in seen.items():
            counts += (batch[name]["label"] != 255).sum(dim=(1, 2)).tolist()
    assert seen["labelled"] == [1] * 16
    if queried == 5:  # one pool serves both
        assert seen["target"] == [1] * 16
    else:
        assert sum(seen["target"]) < 6  # uniform: such a crop holds the pixel once in 20


def test_images_of_several_sizes_can_be_cropped() -> None:
    sizes = [(9, 12), (20, 8), (5, 5)]
    samples = [(np.full((*size, 3), 50, dtype=np.uint8), np.zeros(size, dtype=np.uint8)) for size in sizes]
    mixed = wrap_dataset(samples, ["road", "car"])
    data = ActiveDataModule(mixed, mixed, mixed, source_crop=[8, 8], target_crop=[8, 8], batch_size=3)
    data.check()
    assert {tuple(batch["source"]["image"].shape) for batch in batches(data)} == {(3, 3, 8, 8)}
    assert [tuple(batch.image.shape[2:]) for batch in data.pool_dataloader()] == sizes
    with pytest.raises(UserError, match=r"^ActiveDataModule: target_size is not set: images of several sizes"):
        ActiveDataModule(mixed, mixed, None, source_crop=[8, 8], target_crop=[8, 8], eval_batch_size=2).check()
    with pytest.raises(UserError, match=r"^ActiveDataModule: source_size is not set"):
        ActiveDataModule(mixed, mixed, None, target_crop=[8, 8]).check()


def test_around_small_images_is_the_colour_that_normalises_to_zero() -> None:
    data = module(source_crop=[40, 40], target_crop=[40, 40])
    batch = batches(data)[0]["source"]
    outside = batch["image"].permute(0, 2, 3, 1)[batch["label"] == 255]
    assert (outside.abs().amax(dim=1) < 0.02).float().mean() > 0.9  # the rest is 255 inside the image


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"crop": [4]}, r"crop must be \[height, width\]"),
        ({"source_crop": [4]}, r"source_crop must be \[height, width\]"),
        ({"target_crop": 4}, r"target_crop must be \[height, width\]"),
        ({"source_crop": [0, 4]}, r"source_crop must be"),
        ({"source_crop": [4, 4], "source_crop_at": "labelled"}, r"source_crop_at must be 'uniform' or 'class_aware'"),
        ({"target_crop": [4, 4], "target_crop_at": "rare"}, r"target_crop_at must be 'uniform' or 'labelled'"),
        ({"source_crop": [4, 4], "target_crop_at": "labelled"}, r"target_crop_at is 'labelled', but there is no crop"),
        ({"scale_range": [0.5, 1]}, r"scale_range is \[0.5, 1\], but there is no crop; set crop"),
        ({"source_crop": [4, 4], "scale_range": [2, 1]}, r"scale_range must be \[smallest, largest\]"),
        ({"source_crop": [4, 4], "scale_range": [0, 1]}, r"scale_range must be"),
        ({"source_crop": [4, 4], "scale_range": 1.5}, r"scale_range must be"),
        ({"source_crop": [4, 4], "scale_range": [1, float("nan")]}, r"scale_range must be"),
    ],
)
def test_mistakes_name_their_argument(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=f"^ActiveDataModule: {problem}"):
        tiny.datamodule(**options)
