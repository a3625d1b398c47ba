"""FolderDataset on real files: what it reads, and one helpful line for each fault."""

import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ripu_lightning.data.folder import FolderDataset
from ripu_lightning.errors import UserError

CLASSES = """
classes:
  - {name: road, color: [128, 64, 128], ids: [7, 8]}
  - {name: car, color: [0, 0, 142], ids: [26]}
  - {name: sky, color: [70, 130, 180], ids: [0, 23, 24]}
ignore: [4, 255]
"""
TO_TRAIN = {7: 0, 8: 0, 26: 1, 0: 2, 23: 2, 24: 2, 4: 255, 255: 255}
HEIGHT, WIDTH = 13, 17


def random_image(seed: int, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_label(seed: int, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(np.array(list(TO_TRAIN), dtype=np.uint8), (height, width))


def save(pixels: npt.NDArray[np.generic], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


class Tree:
    """A folder with three good pairs, to be damaged by a test."""

    def __init__(self, root: Path) -> None:
        self.root, self.map = root, root / "classes.yaml"
        root.mkdir(parents=True, exist_ok=True)
        self.map.write_text(CLASSES)
        for seed, name in enumerate(("north/b", "a", "north/deep/c")):
            save(random_image(seed), self.image(name))
            save(random_label(seed), self.label(name))

    def image(self, name: str, suffix: str = ".png") -> Path:
        return self.root / "images" / "train" / f"{name}{suffix}"

    def label(self, name: str, suffix: str = ".png") -> Path:
        return self.root / "labels" / "train" / f"{name}{suffix}"

    def open(self) -> FolderDataset:
        return FolderDataset(str(self.root), "train", str(self.map))

    def fault(self, path: Path) -> str:
        """The line that building or checking the data set ends with; it names ``path``."""
        with pytest.raises(UserError) as caught:
            self.open().check()
        line = str(caught.value)
        assert "\n" not in line
        assert str(path) in line
        return line


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "data {set} %s")  # characters that formatting could trip over


def test_reads_nested_files_in_a_stable_order(tree: Tree) -> None:
    data = tree.open()
    data.check()
    assert list(data.ids) == ["a", "north/b", "north/deep/c"]
    assert len(data) == 3
    for index, seed in enumerate((1, 0, 2)):
        np.testing.assert_array_equal(data.image(index), random_image(seed))
        expected = [[TO_TRAIN[value] for value in row] for row in random_label(seed).tolist()]
        np.testing.assert_array_equal(data.label(index), expected)
        assert data.image(index).dtype == data.label(index).dtype == np.uint8
        assert data.size(index) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".bmp", ".tif"])
def test_reads_other_formats(tree: Tree, suffix: str) -> None:
    smooth = np.linspace(0, 255, HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)
    save(smooth, tree.image("x.y", suffix))
    save(random_label(5), tree.label("x.y"))
    data = tree.open()
    read = data.image(list(data.ids).index("x.y"))
    assert read.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(read.astype(int) - smooth).mean() < 8


@pytest.mark.parametrize("bits", [2, 8])
def test_palette_labels_are_read_as_indices(tree: Tree, bits: int) -> None:
    indices = np.random.default_rng(3).choice(np.array([0, 1, 2], dtype=np.uint8), (HEIGHT, WIDTH))
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette(list(np.random.default_rng(4).integers(0, 256, 768)))
    picture.putdata(indices.reshape(-1).tolist())
    picture.save(tree.label("a"), bits=bits)
    tree.map.write_text(CLASSES.replace("[7, 8]", "[1]").replace("[26]", "[2]").replace("[4, 255]", "[7, 8, 26, 4]"))
    tree.map.write_text(tree.map.read_text().replace("23, 24]", "23, 24, 255]"))
    np.testing.assert_array_equal(tree.open().label(0), np.array([2, 0, 1])[indices])


@pytest.mark.parametrize("part", ["images", "labels"])
def test_missing_folder(tree: Tree, part: str) -> None:
    (tree.root / part).rename(tree.root / "elsewhere")
    assert "wrong root or split" in tree.fault(tree.root / part / "train")


@pytest.mark.parametrize("part", ["images", "labels"])
def test_empty_folder(tree: Tree, part: str) -> None:
    (tree.root / part).rename(tree.root / "elsewhere")
    (tree.root / part / "train").mkdir(parents=True)
    assert "no images" in tree.fault(tree.root / part / "train")


def test_image_without_label(tree: Tree) -> None:
    tree.label("north/b").unlink()
    line = tree.fault(tree.image("north/b"))
    assert "image without label" in line
    assert str(tree.root / "labels" / "train" / "north" / "b") in line


def test_labels_without_image_are_counted(tree: Tree) -> None:
    tree.image("a").unlink()
    tree.image("north/b").unlink()
    line = tree.fault(tree.label("a"))
    assert "label without image" in line
    assert "2 such files" in line


def test_same_name_twice(tree: Tree) -> None:
    save(random_image(9), tree.image("a", ".jpg"))
    assert "same name" in tree.fault(tree.image("a", ""))


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("part", ["image", "label"])
@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda path: path.write_bytes(b""), "can not be read"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), "can not be read"),
        (lambda path: cut(path, 0.6), "can not be decoded"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere.png")), "can not be read"),
        (lambda path: (path.unlink(), path.symlink_to(path.name)), "can not be read"),
    ],
    ids=["zero bytes", "garbage", "truncated", "broken link", "link to itself"],
)
def test_unreadable_file(tree: Tree, part: str, damage: Callable[[Path], object], word: str) -> None:
    path = getattr(tree, part)("north/b")
    damage(path)
    line = tree.fault(path)
    assert word in line
    assert "replace or remove" in line


def test_truncated_jpeg(tree: Tree) -> None:
    save(random_image(1, 64, 64), tree.image("z", ".jpg"))
    save(random_label(1, 64, 64), tree.label("z"))
    tree.open().check()
    cut(tree.image("z", ".jpg"), 0.5)
    assert "can not be decoded" in tree.fault(tree.image("z", ".jpg"))


def test_flipped_bytes_never_end_in_another_error(tree: Tree) -> None:
    rng = np.random.default_rng(0)
    path = tree.image("a")
    whole = path.read_bytes()
    faults = 0
    for _ in range(150):
        damaged = np.frombuffer(whole, dtype=np.uint8).copy()
        damaged[rng.integers(0, len(whole), 2)] = rng.integers(0, 256, 2)
        path.write_bytes(damaged.tobytes()[: rng.integers(1, len(whole) + 1)])
        with suppress(UserError):
            tree.open().check()
            continue
        faults += 1
    assert faults > 100


def test_label_of_another_size(tree: Tree) -> None:
    save(random_label(0, WIDTH, HEIGHT), tree.label("a"))
    line = tree.fault(tree.label("a"))
    assert f"{HEIGHT}x{WIDTH}" in line
    assert f"{WIDTH}x{HEIGHT}" in line


def test_unknown_ids_are_counted_and_named(tree: Tree) -> None:
    label = random_label(0)
    label[0, :3], label[5, 6] = 99, 12
    save(label, tree.label("a"))
    line = tree.fault(tree.label("a"))
    assert "4 pixels" in line
    assert "12, 99" in line


@pytest.mark.parametrize(("shape", "mode"), [((HEIGHT, WIDTH), "L"), ((HEIGHT, WIDTH, 4), "RGBA")])
def test_image_channels(tree: Tree, shape: tuple[int, ...], mode: str) -> None:
    save(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), tree.image("a"))
    assert f"mode {mode}" in tree.fault(tree.image("a"))


def test_label_with_three_channels(tree: Tree) -> None:
    save(random_image(0), tree.label("a"))
    assert "3 channel(s)" in tree.fault(tree.label("a"))


@pytest.mark.parametrize("part", ["image", "label"])
def test_16_bit_grey(tree: Tree, part: str) -> None:
    path = getattr(tree, part)("a")
    save(np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH), dtype=np.uint16), path)
    assert "convert it" in tree.fault(path)


def write_png(path: Path, width: int, rows: list[bytes], depth: int, color_type: int) -> None:
    """A PNG with any bit depth, which Pillow itself does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def test_16_bit_colour(tree: Tree) -> None:
    rng = np.random.default_rng(0)
    write_png(tree.image("a"), WIDTH, [rng.bytes(6 * WIDTH) for _ in range(HEIGHT)], depth=16, color_type=2)
    assert "16 bits" in tree.fault(tree.image("a"))


def test_4_bit_grey_label_would_be_scaled(tree: Tree) -> None:
    write_png(tree.label("a"), WIDTH, [b"\x07" * ((WIDTH + 1) // 2)] * HEIGHT, depth=4, color_type=0)
    assert "fewer than 8 bits" in tree.fault(tree.label("a"))


def test_check_reaches_the_last_file(tree: Tree) -> None:
    label = random_label(2)
    label[-1, -1] = 200
    save(label, tree.label("north/deep/c"))
    assert "1 pixels" in tree.fault(tree.label("north/deep/c"))


def test_folder_named_like_an_image(tree: Tree) -> None:
    for part in (tree.image, tree.label):
        part("odd").mkdir()
        part("a").rename(part("odd") / "inside.png")
    data = tree.open()
    data.check()
    assert list(data.ids) == ["north/b", "north/deep/c", "odd.png/inside"]


@pytest.mark.parametrize("target", ["..", "../../../elsewhere"])
def test_linked_subfolders_are_refused_not_ignored(tree: Tree, target: str) -> None:
    (tree.root / "elsewhere").mkdir()
    link = tree.image("north/link", "")
    link.symlink_to(target if target == ".." else os.path.relpath(tree.root / "elsewhere", link.parent))
    assert "link" in tree.fault(link)


def test_linked_files_and_a_linked_split_are_fine(tree: Tree) -> None:
    tree.image("a").rename(tree.root / "moved.png")
    tree.image("a").symlink_to(tree.root / "moved.png")
    (tree.root / "images" / "train").rename(tree.root / "kept")
    (tree.root / "images" / "train").symlink_to(tree.root / "kept")
    data = tree.open()
    data.check()
    np.testing.assert_array_equal(data.image(0), random_image(1))
