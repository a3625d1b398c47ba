"""Transforms: seeded, aligned, and with masks that hold only what was there or 255."""

import hashlib
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from ripu_lightning.data import ActiveDataModule, wrap_dataset
from ripu_lightning.data.resizing import resize_image, resize_mask
from ripu_lightning.data.transforms import MEAN, STD, A, Transform
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.labels import QueriedLabels, Stage
from ripu_lightning.seeding import derive_seed
from tiny import denormalize

ALL = ("flip", "scale", "color")
Bytes = npt.NDArray[np.uint8]


def sample(seed: int = 0, height: int = 24, width: int = 32) -> tuple[Bytes, Bytes]:
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.choice(np.array([3, 7, 11, 255], dtype=np.uint8), (height, width))


def painted(height: int = 48, width: int = 64) -> tuple[Bytes, Bytes]:
    """Grey with one white block off the centre, which the mask marks as class 5; class 2 elsewhere."""
    image, mask = np.full((height, width, 3), 100, dtype=np.uint8), np.full((height, width), 2, dtype=np.uint8)
    block = (slice(height // 4, height // 2), slice(width // 8, width // 2))
    image[block], mask[block] = 255, 5
    return image, mask


def outcomes(names: tuple[str, ...], count: int = 40) -> Iterator[tuple[Bytes, Bytes]]:
    """Augmented pictures and masks of the painted sample."""
    transform = Transform(names)
    for seed in range(count):
        image, mask = transform(*painted(), seed=seed)
        yield denormalize(image), mask.numpy()


@settings(max_examples=60)
@given(st.integers(0, 2**63 - 1), st.integers(3, 40), st.integers(3, 40))
def test_masks_keep_their_values(seed: int, height: int, width: int) -> None:
    image, mask = sample(seed % 97, height, width)
    pixels, labels = Transform(ALL)(image, mask, seed)
    assert labels.dtype == torch.uint8
    assert pixels.dtype == torch.float32
    assert tuple(labels.shape) == (height, width)
    assert tuple(pixels.shape) == (3, *labels.shape)
    assert set(labels.unique().tolist()) <= {3, 7, 11, 255}
    assert bool(torch.isfinite(pixels).all())


def test_inputs_are_left_alone_and_may_be_views() -> None:
    image, mask = sample()
    expected = Transform(ALL)(np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1]), 4)
    before = image.copy(), mask.copy()
    image.setflags(write=False)
    mask.setflags(write=False)
    found = Transform(ALL)(image[:, ::-1], mask[:, ::-1], seed=4)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def drawn(seeds: list[int]) -> dict[int, tuple[Tensor, Tensor]]:
    transform = Transform(ALL)
    return {seed: transform(*sample(), seed=seed) for seed in seeds}


def test_the_seed_decides_in_any_order() -> None:
    seeds = list(range(12))
    forth, back = drawn(seeds), drawn(seeds[::-1])
    for seed in seeds:
        assert torch.equal(forth[seed][0], back[seed][0])
        assert torch.equal(forth[seed][1], back[seed][1])
    assert len({forth[seed][0].numpy().tobytes() for seed in seeds}) >= len(seeds) - 2  # now and then nothing is drawn


def test_the_seed_decides_in_another_process() -> None:
    code = (
        "import hashlib, random, numpy as np\n"
        "from ripu_lightning.data.transforms import Transform\n"
        "np.random.seed(5); random.seed(6)\n"
        "rng = np.random.default_rng(0)\n"
        "image = rng.integers(1, 256, (24, 32, 3), dtype=np.uint8)\n"
        "mask = rng.choice(np.array([3, 7, 11, 255], dtype=np.uint8), (24, 32))\n"
        "transform = Transform(('flip', 'scale', 'color'))\n"
        "for seed in (9, 3, 2**62 + 1):\n"
        "    image_out, mask_out = transform(image, mask, seed=seed)\n"
        "    print(hashlib.sha256(image_out.numpy().tobytes() + mask_out.numpy().tobytes()).hexdigest())\n"
        "import os; print(os.environ['NO_ALBUMENTATIONS_UPDATE'])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    transform = Transform(ALL)
    here = []
    for seed in (2**62 + 1, 3, 9):
        image, mask = transform(*sample(), seed=seed)
        here.append(hashlib.sha256(image.numpy().tobytes() + mask.numpy().tobytes()).hexdigest())
    assert result.stdout.split() == [*here[::-1], "1"]


def test_no_augmentation_ignores_the_seed() -> None:
    transform = Transform()
    first, second = (transform(*sample(), seed=seed) for seed in (1, 2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_own_size_is_normalised_by_the_plain_formula() -> None:
    image, mask = sample()
    pixels, labels = Transform()(image, mask, seed=0)
    expected = (image / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(pixels.numpy(), expected.transpose(2, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(labels.numpy(), mask)


@pytest.mark.parametrize("size", [(12, 16), (15, 20), (48, 64), (31, 17), (24, 32)])
def test_resize_is_pillows(size: tuple[int, int]) -> None:
    """Bicubic with antialiasing, and the nearest pixel's centre: as the published code resizes."""
    image, mask = sample(3)
    bicubic = np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
    difference = np.abs(resize_image(image, size).astype(int) - bicubic)
    assert difference.max() <= 2
    assert difference.mean() < 0.05
    nearest = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_mask(mask, size), np.array(nearest))


@pytest.mark.parametrize("factor", [3, 5])
def test_resize_keeps_image_and_mask_aligned(factor: int) -> None:
    image, mask = painted(48 * factor, 64 * factor)
    white = resize_image(image, (48, 64))[..., 1] > 178
    np.testing.assert_array_equal(white, resize_mask(mask, (48, 64)) == 5)


def test_resize_takes_views_that_are_read_only() -> None:
    image, mask = sample()
    expected = resize_image(image[:, ::-1].copy(), (12, 16)), resize_mask(mask[:, ::-1].copy(), (12, 16))
    image.setflags(write=False)
    mask.setflags(write=False)
    np.testing.assert_array_equal(resize_image(image[:, ::-1], (12, 16)), expected[0])
    np.testing.assert_array_equal(resize_mask(mask[:, ::-1], (12, 16)), expected[1])


def test_flip_mirrors_both_or_none() -> None:
    image, mask = painted()
    flipped = 0
    for picture, labels in outcomes(("flip",)):
        mirrored = not np.array_equal(labels, mask)
        flipped += mirrored
        np.testing.assert_array_equal(picture, image[:, ::-1] if mirrored else image)
        np.testing.assert_array_equal(labels, mask[:, ::-1] if mirrored else mask)
    assert 10 <= flipped <= 30


def test_scale_keeps_image_and_mask_aligned_and_ignores_the_outside() -> None:
    outside = 0
    for picture, labels in outcomes(("scale",), count=60):
        green = picture[..., 1].astype(int)
        # Away from edges, where interpolation mixes: white is class 5, grey class 2, black is ignored.
        for value, label in ((255, 5), (100, 2), (0, 255)):
            found = labels[green == value]
            assert (found == label).sum() >= 0.97 * found.size
        outside += bool((labels == 255).any())
        assert not (labels[green > 60] == 255).any()
    assert outside > 4


def test_scale_keeps_proportions_and_only_zooms_in() -> None:
    height, width = 12, 24  # of the painted block, a quarter and three eighths of the image
    zooms = []
    for _, labels in outcomes(("scale",), count=60):
        rows, columns = np.nonzero(labels == 5)
        if rows.size and rows.min() > 0 and rows.max() < 47 and columns.min() > 0 and columns.max() < 63:
            zooms.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
    assert len(zooms) > 10
    for found_height, found_width in zooms:
        assert height - 1 <= found_height <= 2 * height + 1
        assert abs(found_width - found_height * width / height) <= 3
    assert max(zooms)[0] > 1.4 * height


def test_color_leaves_the_mask_and_the_geometry() -> None:
    image, mask = painted()
    changed = 0
    for picture, labels in outcomes(("color",)):
        np.testing.assert_array_equal(labels, mask)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) <= 2
        changed += not np.array_equal(picture, image)
    assert changed > 20


@pytest.mark.parametrize(
    ("name", "word"), [("flipp", "did you mean 'flip'"), ("smudge", "known: blur, color, flip, scale")]
)
def test_unknown_augmentation(name: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        Transform(["color", name])


def test_a_bare_word_is_no_list() -> None:
    with pytest.raises(UserError, match=r"ActiveDataModule: augment must be a list such as \['flip'\]"):
        Transform("flip")


def cut(image: Bytes, mask: Bytes) -> tuple[Bytes, Bytes]:
    """A user's function, which draws from three global generators."""
    top, left = random.randrange(8), np.random.randint(8)  # noqa: NPY002
    if torch.rand(()) < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return image[top : top + 16, left : left + 20], mask[top : top + 16, left : left + 20]


FLIPS = {
    "albumentations": lambda: A.HorizontalFlip(p=1),
    "albumentations, composed": lambda: A.Compose([A.OneOf([A.HorizontalFlip(p=1)], p=1)]),
    "albumentations, in a list": lambda: [A.HorizontalFlip(p=1)],
    "torchvision": lambda: v2.RandomHorizontalFlip(p=1),
    "torchvision, composed": lambda: v2.Compose([v2.RandomHorizontalFlip(p=1)]),
    "function": lambda: lambda image, mask: (image[:, ::-1], mask[:, ::-1]),
}


@pytest.mark.parametrize("kind", FLIPS)
def test_ones_own_flip_is_numpys(kind: str) -> None:
    image, mask = sample()
    pixels, labels = Transform(FLIPS[kind](), classes=12)(image, mask, seed=3)
    expected, _ = Transform()(image[:, ::-1], mask[:, ::-1], seed=0)
    assert torch.equal(pixels, expected)
    np.testing.assert_array_equal(labels, mask[:, ::-1])


def rotations() -> dict[str, Callable[[], Any]]:
    return {
        "albumentations": lambda: A.Rotate((30, 60), p=1),
        "torchvision": lambda: v2.RandomRotation((30, 60)),
        "torchvision, filled with a class": lambda: v2.RandomRotation((30, 60), fill=5),
    }


@pytest.mark.parametrize("kind", rotations())
def test_what_ones_own_transform_fills_in_is_ignored(kind: str) -> None:
    """Both libraries fill masks with 0, the first class, by default."""
    image, mask = np.full((40, 40, 3), 200, dtype=np.uint8), np.full((40, 40), 2, dtype=np.uint8)
    pixels, labels = Transform(rotations()[kind](), None, None, classes=3)(image, mask, seed=1)
    assert set(labels.unique().tolist()) == {2, 255}
    assert bool((labels[pixels[0] < 0.05] == 255).all())
    assert bool((labels == 255).any())
    assert bool((labels[16:24, 16:24] == 2).all())


@pytest.mark.parametrize(
    "make", [lambda: cut, lambda: A.RandomCrop(16, 20), lambda: v2_crop()], ids=["function", "albumentations", "v2"]
)
def test_the_seed_decides_ones_own_augmentation(make: Callable[[], Any]) -> None:
    image, mask = sample()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    augment = make()
    forth = [Transform(augment)(image, mask, seed) for seed in range(8)]
    again = [Transform(pickle.loads(pickle.dumps(augment)))(image, mask, seed) for seed in reversed(range(8))]
    for one, other in zip(forth, reversed(again), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert len({pixels.numpy().tobytes() for pixels, _ in forth}) > 4
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == states[1:]  # noqa: NPY002


def v2_crop() -> Any:
    return v2.RandomCrop((16, 20))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ones_own_augmentation_is_the_same_in_any_worker(num_workers: int) -> None:
    noisy = wrap_dataset([sample(seed) for seed in range(4)], [f"class {index}" for index in range(12)])
    data = ActiveDataModule(noisy, noisy, None, augment=cut, num_workers=num_workers, seed=7)
    data.begin_stage(Stage(0, 0, 3, QueriedLabels(None, 0)))
    for step, (batch, _, _) in enumerate(data.train_dataloader()):
        assert batch["source"]["image"].shape == (2, 3, 16, 20)
        for place in range(2):
            draw = 2 * step + place
            found = batch["source"]["image"][place], batch["source"]["label"][place]
            seed = derive_seed(7, "source", "augment", draw)
            possible = [Transform(cut)(noisy.image(index), noisy.label(index), seed) for index in range(4)]
            assert any(all(map(torch.equal, found, each)) for each in possible)


@pytest.mark.parametrize(
    ("augment", "problem"),
    [
        (lambda image, mask: (image, mask[:-1]), "must return (H, W, 3) and (H, W), it returned an image (24, 32, 3)"),
        (lambda image, mask: (image[..., :1], mask), "must return (H, W, 3) and (H, W)"),
        (lambda image, mask: (image / 255, mask), "it returned float64; leave normalisation to mean and std"),
        (lambda image, mask: (image, mask.astype(int)), "must return uint8 arrays (H, W), it returned int64"),
        (lambda image, mask: (torch.from_numpy(image), mask), "it returned torch.uint8"),
        (lambda image, mask: (image, mask // 2 * 2 + 10), "must keep masks of 0..11 and 255, it returned [12, 16"),
        (lambda image, mask: image, "must return (image, mask), it returned a ndarray"),
        (A.Normalize(), "leave normalisation to mean and std"),
    ],
)
def test_a_wrong_augmentation_is_one_line(augment: Any, problem: str) -> None:
    image, mask = sample()
    with pytest.raises(UserError, match=r"^ActiveDataModule: augment must ") as caught:
        Transform(augment, classes=12)(image, mask, seed=0)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def shorter(image: Bytes, mask: Bytes) -> tuple[Bytes, Bytes]:
    return image, mask[:-1]


def test_a_wrong_augmentation_is_a_users_error_in_a_worker() -> None:
    data = wrap_dataset([sample()], [f"class {index}" for index in range(12)])
    module = ActiveDataModule(data, data, None, augment=shorter, num_workers=1, batch_size=1)
    module.begin_stage(Stage(0, 0, 1, QueriedLabels(None, 0)))
    with pytest.raises(UserError, match="ActiveDataModule: augment must return"):
        list(module.train_dataloader())


def test_ones_own_normalisation() -> None:
    image, mask = sample()
    for mean, std in (((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)), (None, None), (None, (0.5, 0.5, 0.5)), ([0, 0, 1], None)):
        pixels, _ = Transform((), mean, std)(image, mask, seed=0)
        expected = (image / 255 - np.array(mean or [0, 0, 0])) / np.array(std or [1, 1, 1])
        np.testing.assert_allclose(pixels.numpy(), expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize(("mean", "std", "name"), [((0, 0), STD, "mean"), (0.5, STD, "mean"), (MEAN, (1, 1, 0), "std")])
def test_a_wrong_normalisation_is_one_line(mean: Any, std: Any, name: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^ActiveDataModule: {name} must be three numbers.* or None, got .*$"):
        Transform((), mean, std)


def test_the_strong_view_is_the_augmented_image_with_other_colours() -> None:
    image, mask = sample()
    plain, strong = Transform(["flip"]), Transform(["flip"], strong=["color"])
    different = 0
    for seed in range(8):
        pixels, label = plain(image, mask, seed)
        view, same, weak = strong(image, mask, seed)
        assert torch.equal(same, label)
        assert torch.equal(weak, pixels)
        different += int(not torch.equal(view, weak))
    assert different > 0


def test_a_strong_view_that_moves_pixels_is_refused() -> None:
    image, mask = sample()
    with pytest.raises(UserError, match="strong_augment must not move pixels"):
        Transform(strong=lambda image, mask: (image[:, ::-1].copy(), mask[:, ::-1].copy()))(image, mask, 0)
