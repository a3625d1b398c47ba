"""Small trees in the exact layouts and encodings of the published data sets, for tests to read and to train on.

Every writer draws with its own seed, returns the file ids it drew as ``{split: {image id: (H, W) uint8}}``, and
gives images whose colour tells the class. All classes of a data set occur in each of its labels, and so does an id that
its class map ignores. Sizes are ``(H, W)``, multiples of 8.
"""

import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

Ids = dict[str, np.ndarray]
SIZE = (64, 128)

# Cityscapes' label ids 0..33 in order, and 34, GTAV's license plate.
CITYSCAPES_COLORS = np.array(
    [
        *((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (111, 74, 0), (81, 0, 81)),
        *((128, 64, 128), (244, 35, 232), (250, 170, 160), (230, 150, 140)),
        *((70, 70, 70), (102, 102, 156), (190, 153, 153), (180, 165, 180), (150, 100, 100), (150, 120, 90)),
        *((153, 153, 153), (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152)),
        *((70, 130, 180), (220, 20, 60), (255, 0, 0)),
        *((0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 0, 90), (0, 0, 110), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
        (0, 0, 142),
    ],
    dtype=np.uint8,
)
CITYSCAPES_CLASSES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_VOID = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
SYNTHIA_CLASSES = (3, 4, 2, 21, 5, 7, 15, 9, 6, 1, 10, 17, 8, 19, 12, 11)
SYNTHIA_VOID = (0, 13, 14, 16, 18, 20, 22)
# IDD's level 3 to Cityscapes' training ids.
IDD_TO_TRAIN = np.full(256, 255, dtype=np.uint8)
IDD_TO_TRAIN[:8] = [0, 255, 1, 9, 11, 12, 17, 18]
IDD_TO_TRAIN[8:20] = [255, 13, 14, 15, 255, 255, 3, 4, 255, 255, 7, 6]
IDD_TO_TRAIN[20:26] = [5, 255, 2, 255, 8, 10]


def write_cityscapes(
    root: Path, train: int = 4, val: int = 2, test: int = 2, size: tuple[int, int] = SIZE, labels: bool = True
) -> dict[str, Ids]:
    """``leftImg8bit`` and ``gtFine`` by split and city, with the files that are next to the label ids.

    Labels of the test split hold no classes, as in the release; without ``labels`` there is no ``gtFine`` at all.
    """
    cities = {"train": ("aachen", "zurich"), "val": ("frankfurt",), "test": ("berlin",)}
    drawn: dict[str, Ids] = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        drawn[split] = {}
        for index in range(count):
            city = cities[split][index % len(cities[split])]
            image_id = f"{city}/{city}_{index:06d}_000019"
            ids = _blocks(f"cityscapes {image_id}", CITYSCAPES_CLASSES, CITYSCAPES_VOID, size)
            _save(_paint(ids, CITYSCAPES_COLORS, image_id), root / f"leftImg8bit/{split}/{image_id}_leftImg8bit.png")
            if split == "test":
                ids = np.where(np.indices(size)[0] < size[0] * 3 // 4, 0, 1).astype(np.uint8)  # unlabelled, own car
            if labels:
                _write_gt_fine(root / f"gtFine/{split}/{image_id}_gtFine", ids)
            drawn[split][image_id] = ids
    return drawn


def write_gtav(
    root: Path, count: int = 4, size: tuple[int, int] = SIZE, mismatch: Sequence[int] = ()
) -> dict[str, Ids]:
    """``images`` and ``labels`` as palette PNGs without splits; labels of images in ``mismatch`` are 8 rows taller."""
    drawn: Ids = {}
    for index in range(count):
        image_id = f"{index + 1:05d}"
        ids = _blocks(f"gtav {image_id}", CITYSCAPES_CLASSES, (34, *CITYSCAPES_VOID), size)
        _save(_paint(ids, CITYSCAPES_COLORS, image_id), root / f"images/{image_id}.png")
        if index in mismatch:
            ids = np.concatenate([ids, ids[-8:]])
        picture = Image.fromarray(ids, mode="P")
        picture.putpalette(CITYSCAPES_COLORS.tobytes())
        _save(picture, root / f"labels/{image_id}.png")
        drawn[image_id] = ids
    return {"all": drawn}


def write_synthia(root: Path, count: int = 4, size: tuple[int, int] = SIZE) -> dict[str, Ids]:
    """``RGB`` and ``GT/LABELS``: 16-bit PNGs of three channels, class and instance in the first two; ``GT/COLOR``."""
    colors = np.zeros((23, 3), dtype=np.uint8)
    shared = [each for each in CITYSCAPES_CLASSES if each not in (22, 27, 31)]
    colors[list(SYNTHIA_CLASSES)] = CITYSCAPES_COLORS[shared]
    drawn: Ids = {}
    for index in range(count):
        image_id = f"{index:07d}"
        ids = _blocks(f"synthia {image_id}", SYNTHIA_CLASSES, SYNTHIA_VOID, size)
        _save(_paint(ids, colors, image_id), root / f"RGB/{image_id}.png")
        _save(colors[ids], root / f"GT/COLOR/{image_id}.png")
        instances = np.random.default_rng(index).integers(0, 2**16, size)
        first_last = np.stack([np.zeros(size), instances, ids], axis=-1).astype(np.uint16)  # OpenCV writes it as RGB
        path = root / f"GT/LABELS/{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), first_last)
        drawn[image_id] = ids
    return {"all": drawn}


def write_camvid(
    root: Path, train: int = 4, val: int = 2, test: int = 2, size: tuple[int, int] = SIZE
) -> dict[str, Ids]:
    """``train`` and ``trainannot`` and so on, as released with SegNet, with their lists of files."""
    colors = np.random.default_rng(11).integers(0, 256, (12, 3), dtype=np.uint8)
    drawn: dict[str, Ids] = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        drawn[split] = {}
        for index in range(count):
            image_id = f"0001TP_{6690 + 30 * index + len(split):06d}"
            ids = _blocks(f"camvid {split} {image_id}", range(11), (11,), size)
            _save(_paint(ids, colors, image_id), root / f"{split}/{image_id}.png")
            _save(ids, root / f"{split}annot/{image_id}.png")
            drawn[split][image_id] = ids
        (root / f"{split}.txt").write_text(
            "".join(f"{split}/{each}.png {split}annot/{each}.png\n" for each in drawn[split])
        )
    return drawn


def write_idd(root: Path, train: int = 4, val: int = 2, size: tuple[int, int] = SIZE) -> dict[str, Ids]:
    """``leftImg8bit`` (PNG and JPEG) and ``gtFine`` by split and drive, with masks of level 3 and of training ids."""
    colors = np.random.default_rng(26).integers(0, 256, (256, 3), dtype=np.uint8)
    drawn: dict[str, Ids] = {}
    for split, count in (("train", train), ("val", val)):
        drawn[split] = {}
        for index in range(count):
            image_id = f"{index % 2}/{index:06d}"
            ids = _blocks(f"idd {split} {image_id}", range(26), (255,), size)
            suffix = "png" if index % 2 else "jpg"
            _save(_paint(ids, colors, image_id), root / f"leftImg8bit/{split}/{image_id}_leftImg8bit.{suffix}")
            stem = root / f"gtFine/{split}/{image_id}_gtFine"
            _save(ids, Path(f"{stem}_labellevel3Ids.png"))
            _save(IDD_TO_TRAIN[ids], Path(f"{stem}_labelcsTrainIds.png"))
            Path(f"{stem}_polygons.json").write_text(json.dumps({"objects": []}))
            drawn[split][image_id] = ids
    return drawn


def write_acdc(root: Path, train: int = 1, val: int = 1, test: int = 1, size: tuple[int, int] = SIZE) -> dict[str, Ids]:
    """``rgb_anon`` and ``gt`` by condition, split and sequence, so many each; the test split has no ``gt``."""
    drawn: dict[str, Ids] = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        drawn[split] = {}
        for condition in ("fog", "night", "rain", "snow"):
            for index in range(count):
                sequence = f"GOPR{475 + index:04d}"
                name = f"{sequence}/{sequence}_frame_{41 + index:06d}"
                ids = _blocks(f"acdc {condition} {split} {name}", CITYSCAPES_CLASSES, CITYSCAPES_VOID, size)
                image = _paint(ids, CITYSCAPES_COLORS, name)
                _save(image, root / f"rgb_anon/{condition}/{split}/{name}_rgb_anon.png")
                _save(image, root / f"rgb_anon/{condition}/{split}_ref/{name}_rgb_ref_anon.png")
                if split != "test":
                    stem = root / f"gt/{condition}/{split}/{name}_gt"
                    _save(ids, Path(f"{stem}_labelIds.png"))
                    _save(CITYSCAPES_COLORS[ids], Path(f"{stem}_labelColor.png"))
                drawn[split][f"{condition}/{name}"] = ids
    return drawn


def write_bdd100k(
    root: Path, train: int = 4, val: int = 2, test: int = 2, size: tuple[int, int] = SIZE
) -> dict[str, Ids]:
    """``images/10k`` (JPEG) and ``labels/sem_seg/masks`` of training ids; the test split has no masks."""
    colors = np.zeros((256, 3), dtype=np.uint8)
    colors[:19] = CITYSCAPES_COLORS[list(CITYSCAPES_CLASSES)]
    drawn: dict[str, Ids] = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        drawn[split] = {}
        for index in range(count):
            image_id = f"{zlib.crc32(split.encode()):08x}-{index:08x}"
            ids = _blocks(f"bdd {image_id}", range(19), (255,), size)
            _save(_paint(ids, colors, image_id), root / f"images/10k/{split}/{image_id}.jpg")
            if split != "test":
                _save(ids, root / f"labels/sem_seg/masks/{split}/{image_id}.png")
                _save(colors[ids], root / f"labels/sem_seg/colormaps/{split}/{image_id}.png")
            drawn[split][image_id] = ids
    return drawn


def _blocks(name: str, classes: Sequence[int], void: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """8 x 8 blocks of ids: every class at least twice, and four of what is ignored, the first of ``void`` for one."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    cells = np.resize(np.array(classes, dtype=np.uint8), 64)
    cells[60:] = [void[0], *generator.choice(np.array(void, dtype=np.uint8), 3)]
    grid = generator.permutation(cells).reshape(8, 8)
    return grid.repeat(size[0] // 8, axis=0).repeat(size[1] // 8, axis=1)


def _paint(ids: np.ndarray, colors: np.ndarray, name: str) -> np.ndarray:
    noise = np.random.default_rng(zlib.crc32(name.encode())).integers(-20, 21, (*ids.shape, 3))
    return np.clip(colors[ids].astype(int) + noise, 0, 255).astype(np.uint8)


def _write_gt_fine(stem: Path, ids: np.ndarray) -> None:
    _save(ids, Path(f"{stem}_labelIds.png"))
    _save(np.dstack([CITYSCAPES_COLORS[ids], np.full(ids.shape, 255, dtype=np.uint8)]), Path(f"{stem}_color.png"))
    _save(ids.astype(np.uint16) * 1000, Path(f"{stem}_instanceIds.png"))
    Path(f"{stem}_polygons.json").write_text(
        json.dumps({"imgHeight": ids.shape[0], "imgWidth": ids.shape[1], "objects": []})
    )


def _save(pixels: np.ndarray | Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    content = io.BytesIO()
    picture.save(content, "JPEG" if path.suffix == ".jpg" else "PNG", quality=95, compress_level=1)
    path.write_bytes(content.getvalue())
