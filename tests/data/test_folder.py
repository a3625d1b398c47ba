"""FolderDataset on real files: what it reads, and one helpful line for each fault."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    assert f"no {part}" in tree.fault(tree.root / part / "train")


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


def test_orphans_can_be_left_out(tree: Tree) -> None:
    tree.image("a").unlink()
    tree.label("north/b").unlink()
    with pytest.warns(UserWarning, match="2 files without partner are left out"):
        dataset = FolderDataset(str(tree.root), "train", str(tree.map), orphans="skip")
    assert dataset.ids == ["north/deep/c"]
    assert len(dataset.orphans) == 2
    dataset.check()
    assert ["2 files without partner are left out" in note for note in dataset.notes()] == [True]
    with pytest.raises(UserError, match="FolderDataset: orphans must be 'error' or 'skip'"):
        FolderDataset(str(tree.root), "train", str(tree.map), orphans="drop")


@pytest.mark.parametrize("part", ["image", "label"])
def test_a_damaged_header_is_a_fault_of_its_file(tree: Tree, part: str) -> None:
    path = getattr(tree, part)("a")
    path.write_bytes(path.read_bytes()[:20])  # ends inside the first chunk
    assert "cannot be read as an image" in tree.fault(path)


def test_content_is_the_same_anywhere_and_changes_with_it(tree: Tree, tmp_path: Path) -> None:
    first = tree.open()
    shutil.copytree(tree.root, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = FolderDataset(str(tmp_path / "copy"), "train", str(tree.map))
    assert copy.fingerprint() != first.fingerprint()  # other times
    assert copy.content() == first.content()
    changed = np.array(Image.open(tree.label("a")))
    changed[0, 0] = 7 if changed[0, 0] != 7 else 23
    save(changed, tmp_path / "copy" / "labels" / "train" / "a.png")
    assert FolderDataset(str(tmp_path / "copy"), "train", str(tree.map)).content() != first.content()


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
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), "cannot be read"),
        (lambda path: cut(path, 0.6), "cannot be decoded"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere.png")), "cannot be read"),
        (lambda path: (path.unlink(), path.symlink_to(path.name)), "cannot be read"),
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
    assert "cannot be decoded" in tree.fault(tree.image("z", ".jpg"))


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


@pytest.mark.parametrize(("shape", "mode"), [((HEIGHT, WIDTH), "L"), ((HEIGHT, WIDTH, 2), "LA")])
def test_image_channels(tree: Tree, shape: tuple[int, ...], mode: str) -> None:
    save(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), tree.image("a"))
    assert f"mode {mode}" in tree.fault(tree.image("a"))


def test_an_alpha_channel_is_left_out(tree: Tree) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    save(stored, tree.image("a"))
    assert np.array_equal(tree.open().image(0), stored[..., :3])


def test_label_with_three_channels(tree: Tree) -> None:
    save(random_image(0), tree.label("a"))
    assert "221 pixels have colours" in tree.fault(tree.label("a"))


@pytest.mark.parametrize("part", ["image", "label"])
def test_16_bit_grey(tree: Tree, part: str) -> None:
    path = getattr(tree, part)("a")
    save(np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH), dtype=np.uint16), path)
    assert ("convert=rgb" if part == "image" else "set label_bits=16") in tree.fault(path)


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


def write_16_bit(ids: npt.NDArray[np.integer], path: Path, channels: int) -> None:
    """Ids in the first of one or three channels of 16 bits; the others hold noise."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2**16, (*ids.shape, channels)).astype(">u2")
    pixels[..., 0] = ids
    write_png(path, ids.shape[1], [row.tobytes() for row in pixels], depth=16, color_type={1: 0, 3: 2}[channels])


def open_16_bit(tree: Tree, channels: int) -> FolderDataset:
    for seed, name in enumerate(("north/b", "a", "north/deep/c")):
        write_16_bit(random_label(seed), tree.label(name), channels)
    return FolderDataset(str(tree.root), "train", str(tree.map), label_bits=16)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_labels(tree: Tree, channels: int) -> None:
    data = open_16_bit(tree, channels)
    data.check()
    for index, seed in enumerate((1, 0, 2)):
        np.testing.assert_array_equal(data.label(index), np.vectorize(TO_TRAIN.get)(random_label(seed)))
        assert data.label(index).dtype == np.uint8


@pytest.mark.parametrize("value", [256, 256 + 7, 2**16 - 1, 99])
def test_16_bit_values_are_not_cut_to_known_ones(tree: Tree, value: int) -> None:
    data = open_16_bit(tree, 3)
    ids = random_label(1).astype(np.uint16)
    ids[3, 4] = value
    write_16_bit(ids, tree.label("a"), 3)
    with pytest.raises(UserError, match=rf"a\.png: 1 pixels hold ids .*: {value};"):
        data.label(0)


@pytest.mark.parametrize("channels", [1, 3])
def test_bits_other_than_said(tree: Tree, channels: int) -> None:
    open_16_bit(tree, channels)
    assert "label_bits=16" in tree.fault(tree.label("a"))
    save(random_label(1), tree.label("a"))
    with pytest.raises(UserError, match=r"a\.png: label has no 16-bit channels .*label_bits=8"):
        FolderDataset(str(tree.root), "train", str(tree.map), label_bits=16).label(0)


def test_ids_of_16_bits(tree: Tree) -> None:
    tree.map.write_text(CLASSES.replace("ids: [26]", "ids: [26001, 65535]"))
    wide = {**TO_TRAIN, 26001: 1, 65535: 1}
    del wide[26]
    ids = np.random.default_rng(0).choice(np.array(list(wide)), (HEIGHT, WIDTH))
    write_16_bit(ids, tree.label("a"), 1)
    for name in ("north/b", "north/deep/c"):
        write_16_bit(ids * 0, tree.label(name), 1)
    data = FolderDataset(str(tree.root), "train", str(tree.map), label_bits=16)
    data.check()
    np.testing.assert_array_equal(data.label(0), np.vectorize(wide.get)(ids))
    assert "set label_bits=16" in tree.fault(tree.label("a"))
    save(random_label(0), tree.label("a"))
    assert "8 bits, which cannot hold the ids [26001, 65535] of car" in tree.fault(tree.label("a"))
    assert "set label_bits=16 for labels of 16 bits" in tree.fault(tree.label("a"))


def test_a_pool_without_labels_names_what_it_leaves_out(tree: Tree) -> None:
    save(random_image(9), tree.image("d", ".TIF"))
    with pytest.warns(UserWarning, match=r"1 file with the suffix \.TIF \(1\) left out, because .*\.png has another"):
        data = FolderDataset(str(tree.root), "train", str(tree.map), images="images/{split}/{id}.png", labels=None)
    assert len(data.ids) == 3
    assert "left out" in data.notes()[0]


def test_doubts_about_the_classes_are_notes(tree: Tree) -> None:
    tree.map.write_text(CLASSES.replace("[0, 0, 142]", "[128, 64, 128]"))
    with pytest.warns(UserWarning, match="'road', 'car' have one color"):
        data = tree.open()
    assert [note for note in data.notes() if "'road', 'car' have one color" in note]


def test_damaged_16_bit_labels(tree: Tree) -> None:
    data, path = open_16_bit(tree, 3), tree.label("a")
    whole = path.read_bytes()
    for end in (0, 20, len(whole) // 2, len(whole) - 13):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"a\.png: cannot be (read|decoded).*replace or remove"):
            data.label(0)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(UserError, match=r"a\.png: cannot be decoded"):
        data.label(0)


def mismatched(tree: Tree, mismatch: str) -> FolderDataset:
    """``a`` has a label of twice the image's size, ``north/b`` one with rows and columns exchanged."""
    save(random_label(1).repeat(2, axis=0).repeat(2, axis=1), tree.label("a"))
    save(random_label(0, WIDTH, HEIGHT), tree.label("north/b"))
    return FolderDataset(str(tree.root), "train", str(tree.map), mismatch=mismatch)  # type: ignore[arg-type]


def test_mismatch_resize(tree: Tree) -> None:
    data = mismatched(tree, "resize")
    with pytest.warns(UserWarning, match=r"labels resized .* 2 of 3: a, north/b$"):
        data.check()
    to_train = np.vectorize(TO_TRAIN.get)
    np.testing.assert_array_equal(data.label(0), to_train(random_label(1)))
    rows = [int((i + 0.5) * WIDTH / HEIGHT) for i in range(HEIGHT)]
    columns = [int((i + 0.5) * HEIGHT / WIDTH) for i in range(WIDTH)]
    np.testing.assert_array_equal(data.label(1), to_train(random_label(0, WIDTH, HEIGHT))[np.ix_(rows, columns)])
    np.testing.assert_array_equal(data.label(2), to_train(random_label(2)))
    assert [note.rsplit(", ", 2)[1:] for note in data.notes()] == [["2 of 3: a", "north/b"]]


def test_mismatch_skip(tree: Tree) -> None:
    with pytest.warns(UserWarning, match=r"left out .* 2 of 3: a, north/b$"):
        data = mismatched(tree, "skip")
    assert list(data.ids) == ["north/deep/c"]
    data.check()
    np.testing.assert_array_equal(data.image(0), random_image(2))
    assert data.files(0) == (tree.image("north/deep/c"), tree.label("north/deep/c"))


def test_mismatch_error(tree: Tree) -> None:
    with pytest.raises(UserError, match=r"a\.png: label is 34x26, but its image a\.png is 17x13"):
        mismatched(tree, "error").check()


@pytest.mark.parametrize("mismatch", ["resize", "skip"])
def test_nothing_is_said_where_nothing_differs(
    tree: Tree, mismatch: str, recwarn: pytest.WarningsRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    data = FolderDataset(str(tree.root), "train", str(tree.map), mismatch=mismatch)  # type: ignore[arg-type]
    data.check()
    assert len(data) == 3
    assert not [each for each in recwarn if issubclass(each.category, UserWarning)]
    assert f"checking {tree.root}" in capsys.readouterr().err


def test_options_that_are_none(tree: Tree) -> None:
    with pytest.raises(UserError, match="FolderDataset: label_bits must be 8 or 16, got 4"):
        FolderDataset(str(tree.root), "train", str(tree.map), label_bits=4)
    with pytest.raises(UserError, match="FolderDataset: mismatch must be 'error' or 'resize' or 'skip', got 'crop'"):
        FolderDataset(str(tree.root), "train", str(tree.map), mismatch="crop")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"root": None}, "FolderDataset: root must be text, got None"),
        ({"split": 2012}, "FolderDataset: split must be text, got 2012; write a number in quotes: split='\"2012\"'"),
        ({"classes": 19}, "FolderDataset: classes must be text, got 19; write a number in quotes: classes='\"19\"'"),
        ({"images": None}, "FolderDataset: images must be text, got None"),
        ({"labels": ["a"]}, "FolderDataset: labels must be text, got ['a']"),
        ({"mismatch": ["skip"]}, "FolderDataset: mismatch must be 'error' or 'resize' or 'skip', got ['skip']"),
        ({"orphans": None}, "FolderDataset: orphans must be 'error' or 'skip', got None"),
    ],
)
def test_values_that_are_no_text_are_named(tree: Tree, values: dict[str, Any], line: str) -> None:
    given = {"root": str(tree.root), "split": "train", "classes": str(tree.map), **values}
    with pytest.raises(UserError) as caught:
        FolderDataset(**given)
    assert str(caught.value) == line


def test_hidden_files_are_not_the_data_set(tree: Tree) -> None:
    """macOS leaves ._NAME next to each file it copies; tools leave folders such as .thumbnails."""
    for path in (tree.image("a"), tree.label("a")):
        path.with_name(f"._{path.name}").write_bytes(b"resource fork")
        (path.parent / ".thumbnails").mkdir()
        (path.parent / ".thumbnails" / path.name).write_bytes(path.read_bytes())
    data = tree.open()
    assert list(data.ids) == ["a", "north/b", "north/deep/c"]
    data.check()


@pytest.mark.parametrize("mismatch", ["error", "skip"])
def test_without_labels_no_label_is_touched(tree: Tree, mismatch: str) -> None:
    for path in (tree.root / "labels").rglob("*.png"):
        path.write_bytes(b"not for reading")
    tree.label("a").unlink()
    data = FolderDataset(str(tree.root), "train", str(tree.map), labels=None, mismatch=mismatch)  # type: ignore[arg-type]
    data.check()
    assert not data.has_labels
    assert data.files(0) == (tree.image("a"), None)
    assert len(data.fingerprint()) == 64
    with pytest.raises(UserError, match=r"a\.png: its data set has no labels"):
        data.label(0)


def test_check_without_labels_opens_none(tree: Tree) -> None:
    tree.label("a").write_bytes(b"not for reading")
    tree.open().check(labels=False)
    with pytest.raises(UserError, match="cannot be read"):
        tree.open().check()


def test_fingerprint_stays(tree: Tree) -> None:
    data = tree.open()
    before = data.fingerprint()
    (tree.root / "images" / "train" / "notes.txt").write_text("no image")
    save(random_image(4), tree.root / "images" / "val" / "other.png")
    for index in range(3):
        data.image(index), data.label(index)
    assert tree.open().fingerprint() == before
    tree.root.rename(tree.root.parent / "moved")
    moved = FolderDataset(str(tree.root.parent / "moved"), "train", str(tree.root.parent / "moved" / "classes.yaml"))
    assert moved.fingerprint() == before
    assert data.fingerprint() == before  # found once, from then on the same


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: os.utime(tree.image("a")),
        lambda tree: os.utime(tree.label("north/b")),
        lambda tree: os.utime(tree.image("a"), ns=(0, tree.image("a").stat().st_mtime_ns + 1)),
        lambda tree: append(tree.label("a")),
        lambda tree: (tree.image("a").rename(tree.image("d")), tree.label("a").rename(tree.label("d"))),
        lambda tree: (tree.image("a").unlink(), tree.label("a").unlink()),
        lambda tree: tree.map.write_text(CLASSES.replace("[7, 8]", "[7]").replace("[4, 255]", "[4, 8, 255]")),
        lambda tree: tree.map.write_text(CLASSES.replace("car", "truck")),
    ],
    ids=["touched image", "touched label", "one nanosecond", "size", "name", "fewer", "ids", "class name"],
)
def test_fingerprint_changes(tree: Tree, change: Callable[[Tree], object]) -> None:
    before = tree.open().fingerprint()
    change(tree)
    assert tree.open().fingerprint() != before


def append(path: Path) -> None:
    state = path.stat()
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_fingerprint_tells_options_apart(tree: Tree) -> None:
    options = ({}, {"mismatch": "resize"}, {"label_bits": 16}, {"labels": None}, {"images": "images/{split}/{id}.png"})
    opened = [FolderDataset(str(tree.root), "train", str(tree.map), **each) for each in options]  # type: ignore[arg-type]
    assert len({data.fingerprint() for data in opened}) == len(options)


def test_fingerprint_of_a_broken_link(tree: Tree) -> None:
    tree.label("a").unlink()
    tree.label("a").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"a\.png: cannot be read"):
        tree.open().fingerprint()
