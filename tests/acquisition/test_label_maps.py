"""Superpixels: connected, gap-free, along edges, the same every time; label maps read back from files."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import label
from torch import Tensor

from ripu_lightning.acquisition.label_maps import read_regions, slic
from ripu_lightning.errors import UserError


def noise(seed: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)


def blocks(seed: int) -> Tensor:
    """Squares of 16 pixels in random colours, with a little noise, ``(64, 96, 3)``."""
    colours = noise(seed, 4, 6).repeat_interleave(16, dim=0).repeat_interleave(16, dim=1).long()
    return (colours + noise(seed + 1, 64, 96) % 5).clamp(max=255).to(torch.uint8)


def border(regions: Tensor) -> int:
    """Pairs of neighbouring pixels in different superpixels."""
    return int((regions[1:] != regions[:-1]).sum() + (regions[:, 1:] != regions[:, :-1]).sum())


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    segments=st.integers(1, 60),
    compactness=st.sampled_from([0.01, 1.0, 10.0, 100.0]),
)
def test_ids_have_no_gaps_and_every_superpixel_is_connected(
    seed: int, height: int, width: int, segments: int, compactness: float
) -> None:
    regions = slic(noise(seed, height, width), segments, compactness)
    assert regions.shape == (height, width)
    assert regions.dtype == torch.int64
    ids = sorted(set(regions.flatten().tolist()))
    assert ids == list(range(len(ids)))
    pieces = label(regions.numpy(), background=-1, connectivity=1)
    assert pieces.max() == len(ids)


def test_superpixels_keep_to_strong_edges() -> None:
    regions = slic(blocks(3), segments=96, compactness=10.0)
    assert 48 <= len(regions.unique()) <= 144
    truth = torch.arange(24).view(4, 6).repeat_interleave(16, dim=0).repeat_interleave(16, dim=1)
    # The share of pixels that lie in the block which holds most of their superpixel.
    counts = torch.bincount((regions * 24 + truth).flatten(), minlength=(int(regions.max()) + 1) * 24).view(-1, 24)
    assert counts.amax(dim=1).sum() / truth.numel() > 0.98


@pytest.mark.filterwarnings("error")
def test_more_segments_and_arrays_and_repetition() -> None:
    image = blocks(5)
    few, many = slic(image, segments=20), slic(image, segments=150)
    assert len(few.unique()) < len(many.unique())
    array = image.numpy().copy()
    array.flags.writeable = False  # as an array of a decoded picture is
    assert torch.equal(slic(array, segments=150), many)
    assert torch.equal(slic(image.permute(1, 0, 2).contiguous().permute(1, 0, 2), segments=150), many)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_compactness_makes_borders_shorter(seed: int) -> None:
    loose, square = (slic(blocks(seed), 16, compactness) for compactness in (1.0, 1000.0))
    assert border(square) < border(loose)


@pytest.mark.parametrize(
    "image",
    [
        torch.ones(8, 8, dtype=torch.uint8),
        torch.ones(3, 8, 8, dtype=torch.uint8),
        torch.ones(8, 8, 3),
        torch.ones(0, 8, 3, dtype=torch.uint8),
    ],
)
def test_wrong_images_are_refused(image: Tensor) -> None:
    with pytest.raises(ValueError, match=r"image \(H, W, 3\) uint8"):
        slic(image)


@pytest.mark.parametrize(
    ("options", "key"),
    [({"segments": 0}, "segments"), ({"compactness": 0.0}, "compactness"), ({"compactness": float("nan")}, "compact")],
)
def test_wrong_options_are_refused(options: dict, key: str) -> None:
    with pytest.raises(UserError, match=key):
        slic(noise(0, 8, 8), **options)


def test_missing_scikit_image_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(UserError, match=r"pip install 'ripu-lightning\[superpixels\]'"):
        slic(noise(0, 8, 8))


def ids_and_ranks(values: list[int]) -> tuple[Tensor, list[list[int]]]:
    """A 3 x 5 map drawn from the values, and the map that reading it must give."""
    picked = torch.randint(0, len(values), (15,), generator=torch.Generator().manual_seed(2)).tolist()
    ids = [values[index] for index in picked]
    ranks = [sorted(set(ids)).index(value) for value in ids]
    return torch.tensor(ids).view(3, 5), torch.tensor(ranks).view(3, 5).tolist()


@pytest.mark.parametrize(
    ("values", "dtype"), [([9, 0, 255, 128], np.uint8), ([300, 65535, 2, 40000, 255, 256], np.uint16)]
)
def test_png_is_read_and_relabelled(values: list[int], dtype: type, tmp_path: Path) -> None:
    ids, expected = ids_and_ranks(values)
    path = tmp_path / "regions.png"
    Image.fromarray(ids.numpy().astype(dtype)).save(path)
    regions = read_regions(path)
    assert regions.dtype == torch.int64
    assert regions.tolist() == expected


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint16, torch.int32, torch.int64])
def test_tensor_is_read_and_relabelled(dtype: torch.dtype, tmp_path: Path) -> None:
    ids, expected = ids_and_ranks([7000, 3, 12, 0])
    torch.save(ids.to(dtype), tmp_path / "regions.pt")
    regions = read_regions(str(tmp_path / "regions.pt"))
    assert regions.dtype == torch.int64
    assert regions.tolist() == expected


def test_superpixels_survive_a_file(tmp_path: Path) -> None:
    regions = slic(blocks(7), segments=300)
    Image.fromarray(regions.numpy().astype(np.uint16)).save(tmp_path / "regions.png")
    assert torch.equal(read_regions(tmp_path / "regions.png"), regions)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"regions": torch.ones(2, 2)}, "holds a dict"),
        (torch.rand(4, 4), r"torch\.float32"),
        (torch.ones(4, 4, dtype=torch.bool), r"torch\.bool"),
        (torch.ones(2, 4, 4, dtype=torch.int64), r"\(2, 4, 4\)"),
        (torch.ones(0, 4, dtype=torch.int64), r"\(0, 4\)"),
        (torch.tensor([[1, -1]]), "the id -1"),
        (Path("code"), "cannot be read"),
    ],
)
def test_other_tensor_files_are_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "regions.pt")
    with pytest.raises(UserError, match=rf"regions\.pt.*{message}"):
        read_regions(tmp_path / "regions.pt")


@pytest.mark.parametrize("mode", ["RGB", "P", "1", "LA"])
def test_other_kinds_of_png_are_refused(mode: str, tmp_path: Path) -> None:
    Image.fromarray(noise(1, 6, 6).numpy()).convert(mode).save(tmp_path / "regions.png")
    with pytest.raises(UserError, match=rf"regions\.png.*mode {mode}; expected 8- or 16-bit grayscale"):
        read_regions(tmp_path / "regions.png")


def test_files_that_are_no_png_are_refused(tmp_path: Path) -> None:
    Image.fromarray(noise(1, 40, 40).numpy()).convert("L").save(tmp_path / "lossy.jpg")
    Image.fromarray(noise(1, 40, 40).numpy()).convert("L").save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.txt").write_text("1 2 3")
    for name in ("lossy.jpg", "cut.png", "text.txt"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read as PNG"):
            read_regions(tmp_path / name)
    with pytest.raises(UserError, match=r"missing\.png: no such label map"):
        read_regions(tmp_path / "missing.png")
