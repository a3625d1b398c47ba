"""Wrapped data sets: the same arrays from images and masks of every kind, and one line for every mistake."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from ripu_lightning.data import ActiveDataModule, ClassMap, load_class_map, wrap_dataset
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.labels import Answers, LabelStore, QueriedLabels, Stage

NAMES = ["road", "car", "sky"]
SIZES = [(6, 8), (5, 9), (6, 8)]
rng = np.random.default_rng(0)
IMAGES = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
MASKS = [rng.choice(np.array([0, 1, 2, 255], dtype=np.uint8), size) for size in SIZES]


def chw(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(image, -1, 0).copy())


IMAGE_KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda image: image,
    "view": lambda image: image[:, ::-1][:, ::-1],
    "PIL": Image.fromarray,
    "uint8 tensor": chw,
    "float tensor": lambda image: chw(image).float() / 255,
    "double tensor": lambda image: chw(image).double() / 255,
}
MASK_KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda mask: mask,
    "int64 array": lambda mask: mask.astype(np.int64),
    "PIL L": Image.fromarray,
    "PIL P": lambda mask: Image.fromarray(mask).convert("L").copy(),
    "PIL I": lambda mask: Image.fromarray(mask.astype(np.int32)),
    "uint8 tensor": torch.from_numpy,
    "int64 tensor": lambda mask: torch.from_numpy(mask).long(),
}


class Samples(Dataset[Any]):
    """A user's data set."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts, self.read = parts, 0

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return self.parts[index]


def samples(
    image: Callable[[np.ndarray], Any] = IMAGE_KINDS["array"], mask: Callable[[np.ndarray], Any] = MASK_KINDS["array"]
) -> Samples:
    return Samples([(image(one), mask(other)) for one, other in zip(IMAGES, MASKS, strict=True)])


@pytest.mark.parametrize("mask_kind", MASK_KINDS)
@pytest.mark.parametrize("image_kind", IMAGE_KINDS)
def test_every_kind_gives_the_same_arrays(image_kind: str, mask_kind: str) -> None:
    data = wrap_dataset(samples(IMAGE_KINDS[image_kind], MASK_KINDS[mask_kind]), NAMES)
    assert data.has_labels
    assert data.classes == ClassMap.from_names(NAMES)
    data.check()
    for index, (image, mask) in enumerate(zip(IMAGES, MASKS, strict=True)):
        assert data.size(index) == SIZES[index]
        for found, expected in ((data.image(index), image), (data.label(index), mask)):
            assert found.dtype == np.uint8
            assert found.flags.c_contiguous
            np.testing.assert_array_equal(found, expected)


def test_a_palette_image_is_its_indices() -> None:
    picture = Image.fromarray(MASKS[0])
    picture.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    assert picture.mode == "P"
    np.testing.assert_array_equal(wrap_dataset([(IMAGES[0], picture)], NAMES).label(0), MASKS[0])


def test_images_alone_have_no_labels() -> None:
    for parts in (IMAGES, [(image, None) for image in IMAGES]):
        data = wrap_dataset(Samples(parts), NAMES)
        assert not data.has_labels
        data.check()
        np.testing.assert_array_equal(data.image(2), IMAGES[2])
        with pytest.raises(UserError, match=r"image 000001: it has no mask"):
            data.label(1)


def test_ids() -> None:
    named = samples()
    assert wrap_dataset(named, NAMES).ids == ["000000", "000001", "000002"]
    named.ids = ["a/1", "a/2", "ночь 3"]
    assert wrap_dataset(named, NAMES).ids == named.ids
    assert wrap_dataset(named, NAMES, ["x", "y", "z"]).ids == ["x", "y", "z"]


@pytest.mark.parametrize(
    "ids",
    [["x", "y"], ["x", "y", "x"], ["x", "y", ""], ["x", "y", "../z"], ["x", "y", "/z"], ["x", "y", "z\n"],
     ["x", "y", "a\\..\\b"], ["x", "y", 3], [0, 1, 2]],
)  # fmt: skip
def test_ids_that_the_label_store_could_not_use(ids: list[Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"^wrap_dataset: ids must be .*$"):
        wrap_dataset(samples(), NAMES, ids)


@pytest.mark.parametrize(
    ("sample", "problem"),
    [
        ((IMAGES[0].astype(int), MASKS[0]), "the image is int64 (6, 8, 3); expected RGB"),
        ((IMAGES[0][..., 0], MASKS[0]), "the image is uint8 (6, 8)"),
        ((np.moveaxis(IMAGES[0], -1, 0), MASKS[0]), "the image is uint8 (3, 6, 8)"),
        ((chw(IMAGES[0]).float(), MASKS[0]), "float tensor outside 0..1; leave normalisation"),
        ((chw(IMAGES[0]).float() * float("nan"), MASKS[0]), "float tensor outside 0..1"),
        ((Image.fromarray(IMAGES[0]).convert("RGBA"), MASKS[0]), "mode RGBA; expected RGB"),
        (("a.png", MASKS[0]), "the image is of type str"),
        ((IMAGES[0], MASKS[0].astype(float)), "the mask is float64 (6, 8); expected whole numbers"),
        ((IMAGES[0], MASKS[0] > 1), "the mask is bool (6, 8)"),
        ((IMAGES[0], MASKS[0][None]), "the mask is uint8 (1, 6, 8)"),
        ((IMAGES[0], Image.fromarray(IMAGES[0])), "the mask is uint8 (6, 8, 3)"),
        ((IMAGES[0], MASKS[0][:-1]), "the mask is (5, 8), but its image is (6, 8)"),
        ((IMAGES[0], np.full((6, 8), 3)), "the mask holds 3; expected 0..2 for the classes, and 255"),
        ((IMAGES[0], np.full((6, 8), 256)), "the mask holds 256"),
        ((IMAGES[0], np.full((6, 8), -1)), "the mask holds -1"),
        ((IMAGES[0], MASKS[0], 1), "the sample has 3 parts"),
    ],
)
def test_mistakes_name_the_image(sample: Any, problem: str) -> None:
    data = wrap_dataset(Samples([(IMAGES[0], MASKS[0]), sample]), NAMES)
    with pytest.raises(UserError, match=rf"^Samples, image 000001: .*{re.escape(problem)}") as caught:
        data.check()
    assert "\n" not in str(caught.value)


def test_a_known_size_is_not_read_but_checked() -> None:
    parts = samples()
    data = wrap_dataset(parts, NAMES, size=(6, 8))
    before = parts.read
    assert [data.size(index) for index in range(3)] == [(6, 8)] * 3
    assert parts.read == before
    with pytest.raises(UserError, match=r"image 000001: the image is 5x9, but wrap_dataset has size=\(6, 8\)"):
        data.check()


def test_an_empty_data_set() -> None:
    with pytest.raises(InvalidArgument, match="wrap_dataset: dataset has no samples"):
        wrap_dataset([], NAMES)


def test_masks_of_other_ids_are_mapped_before() -> None:
    classes = load_class_map("cityscapes_19")
    stored = np.array([[7, 8, 0], [33, 11, 1]])
    data = wrap_dataset([(IMAGES[0][:2, :3], classes.lookup()[stored])], classes)
    assert data.label(0).tolist() == [[0, 1, 255], [18, 2, 255]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_it_is_trained_on_and_queried(tmp_path: Path, num_workers: int) -> None:
    data = wrap_dataset(samples(IMAGE_KINDS["PIL"]), NAMES)
    assert pickle.loads(pickle.dumps(data)).size(1) == (5, 9)
    module = ActiveDataModule(data, data, data, batch_size=1, num_workers=num_workers, mean=None, std=None)
    module.check()
    with LabelStore.create_or_open(tmp_path, classes=module.class_names, images=module.image_sizes) as store:
        whole = np.array([[0, 0, *SIZES[1]]], dtype=np.int32)
        answers = Answers(data.ids[1], np.array([[2, 4]], np.int32), whole, MASKS[1].ravel(), np.zeros(1, np.float32))
        store.commit([answers], strategy="hand", annotator="hand", exclusion=0)
        module.begin_stage(Stage(1, 0, 4, QueriedLabels(store, 1)))
        for batch, _, _ in module.train_dataloader():
            np.testing.assert_array_equal(batch["labelled"]["label"][0], MASKS[1])
            np.testing.assert_allclose(batch["labelled"]["image"][0], chw(IMAGES[1]) / 255, atol=1e-6)
    assert [batch.ids for batch in module.pool_dataloader()] == [[name] for name in data.ids]
