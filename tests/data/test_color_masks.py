"""Labels stored as colours or with a palette: decoded exactly, or refused with the reason."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.color_masks import ColorMap, LabelDecoder, StoredLabel
from ripu_lightning.data.folder import FolderDataset
from ripu_lightning.errors import UserError

ROAD, CAR, SKY, DARK = (128, 64, 128), (0, 0, 142), (70, 130, 180), (0, 0, 0)
CLASSES = ClassMap(("road", "car", "sky"), (ROAD, CAR, SKY), ((7,), (26, 27), ()), (4,), ignore_colors=(DARK,))
YAML = """
classes:
  - {name: road, color: [128, 64, 128], ids: [7]}
  - {name: car, color: [0, 0, 142], ids: [26]}
  - {name: sky, color: [70, 130, 180], ids: [23]}
ignore_colors: [[0, 0, 0]]
"""
LABEL_MAP = (
    b"# label:color_rgb:parts:actions\nbackground:0,0,0::\nsky:9,8,7::\nroad:1,2,3::\ncar:4,5,6:wheel,door:drives\n"
)


@given(arrays(np.uint8, (5, 4, 3), elements=st.sampled_from([0, 64, 70, 128, 130, 142, 180])))
def test_decoding_against_a_plain_loop(pixels: npt.NDArray[np.uint8]) -> None:
    pixels[0] = [ROAD, CAR, SKY, DARK]
    meaning = {ROAD: 0, CAR: 1, SKY: 2, DARK: 255}
    found = ColorMap.from_class_map(CLASSES).decode(pixels)
    assert found.dtype == np.int16
    assert found.tolist() == [[meaning.get(tuple(pixel), -1) for pixel in row] for row in pixels.tolist()]


def test_a_label_map_gives_the_colours() -> None:
    colors = ColorMap.from_label_map(LABEL_MAP, CLASSES, "labelmap.txt")
    pixels = np.array([[0, 0, 0], [9, 8, 7], [1, 2, 3], [4, 5, 6], ROAD], dtype=np.uint8)
    assert colors.decode(pixels).tolist() == [255, 2, 0, 1, -1]
    without_background = ColorMap.from_label_map(b"road:1,2,3::", CLASSES, "labelmap.txt")  # black is ignored anyway
    assert without_background.decode(pixels).tolist() == [255, -1, 0, -1, -1]
    background = ClassMap(("background", "car"), (ROAD, CAR))
    only = ColorMap.from_label_map(b"background:0,0,0::\r\ncar:4,5,6::\r\n", background, "labelmap.txt")
    assert only.decode(pixels[[0, 3]]).tolist() == [0, 1]
    colon = ClassMap(("a:b", "c"), (ROAD, CAR))
    assert ColorMap.from_label_map(b"a:b:4,5,6::\n", colon, "labelmap.txt").decode(pixels[3]).item() == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"raod:1,2,3::", "line 1: the label 'raod' is no class of class map (did you mean 'road'?)"),
        (b"\nroad:1,2,3::\ncar:1,2,3::", "line 3: the color [1, 2, 3] is given twice"),
        (b"road:::", "line 1: expected name:red,green,blue:parts:actions, got 'road:::'"),
        (b"road:1,2,256::", "line 1: expected"),
        (b"road:1,2::", "line 1: expected"),
        (b"\xff\xfe\x00", "line 1: expected"),
        (b"car:0,0,0::", "line 1: [0, 0, 0] is the color of car, but one of the ignore_colors of class map"),
        (b"# nothing else", "holds no label"),
    ],
)
def test_label_maps_that_cannot_be_used(content: bytes, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        ColorMap.from_label_map(content, CLASSES, "labelmap.txt")
    assert str(caught.value).startswith("labelmap.txt")


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (ClassMap(("a", "b")), "does not give every class its color"),
        (ClassMap(("a", "b", "c"), (ROAD, CAR, ROAD)), "a and c of class map share the color [128, 64, 128]"),
    ],
)
def test_colours_that_mean_nothing_are_refused(classes: ClassMap, words: str) -> None:
    label = StoredLabel(np.full((2, 2, 3), ROAD, dtype=np.uint8), colored=True)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        LabelDecoder(classes).decode(label, "x.png")
    assert str(caught.value).startswith("x.png: ")


def palette_label(indices: list[int], palette: dict[int, tuple[int, int, int]]) -> StoredLabel:
    colors = np.full((max(palette) + 1, 3), 77, dtype=np.uint8)
    for index, color in palette.items():
        colors[index] = color
    return StoredLabel(np.array([indices], dtype=np.uint8), colors)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (palette_label([7, 26, 4], {7: ROAD, 26: CAR, 4: CAR}), [0, 1, 255]),  # an ignored id in the colour of a class
        (palette_label([7, 26, 27], {7: (1, 1, 1), 26: (2, 2, 2), 27: (3, 3, 3)}), [0, 1, 1]),  # ids, any colours
        (palette_label([7, 26, 4], {7: ROAD, 26: CAR, 4: DARK}), [0, 1, 255]),  # both agree
        (palette_label([0, 1, 2], {0: SKY, 1: DARK, 2: ROAD}), [2, 255, 0]),  # a palette made from colours
        (palette_label([7, 0], {7: CAR, 0: SKY}), [1, 2]),  # 0 is no id, so 7 is none either
        (palette_label([7, 9], {7: ROAD, 9: (3, 3, 3)}), [0, -1]),
        (palette_label([7, 200], {7: ROAD}), [0, -1]),  # an index without colour
    ],
)
def test_a_palette_holds_ids_or_colours(label: StoredLabel, expected: list[int]) -> None:
    assert LabelDecoder(CLASSES).decode(label, "x.png").tolist() == [expected]


@pytest.mark.parametrize("other", [[], [4], [27]])
def test_a_palette_that_contradicts_the_ids_is_refused(other: list[int]) -> None:
    label = palette_label([7, 26, *other], {7: ROAD, 26: SKY, 9: (3, 3, 3), 27: (5, 5, 5)})
    words = "index 26 of its palette is the id of car, but has the color [70, 130, 180] of sky"
    with pytest.raises(UserError, match=re.escape(words)):
        LabelDecoder(CLASSES).decode(label, "x.png")
    # Answers: only the pixels that were queried count.
    assert LabelDecoder(CLASSES).decode(label.at(np.array([0])), "x.png").tolist() == [0]
    plain = ClassMap(CLASSES.names, ids=CLASSES.ids)  # nobody chose its colours
    assert LabelDecoder(plain).decode(label.at(np.array([0, 1])), "x.png").tolist() == [0, 1]


def test_a_label_map_describes_palettes_too() -> None:
    label = palette_label([0, 1, 2], {0: DARK, 1: (1, 2, 3), 2: (4, 5, 6)})  # as CVAT numbers them: 0 is its background
    classes = ClassMap(("road", "car", "sky"), (ROAD, CAR, SKY))
    decoder = LabelDecoder(classes, label_map=("labelmap.txt", LABEL_MAP))
    assert decoder.decode(label, "x.png").tolist() == [[255, 0, 1]]
    assert LabelDecoder(classes).decode(label, "x.png").tolist() == [[0, 1, 2]]
    with_another = palette_label([0, 1], {0: (7, 7, 7), 1: (1, 2, 3)})
    with pytest.raises(UserError, match="index 1 of its palette is the id of car, but has the color"):
        decoder.decode(with_another, "x.png")


def test_a_palette_of_ignored_ids_in_the_colours_of_classes_is_refused() -> None:
    classes = ClassMap(("road", "car"), (ROAD, CAR), ((7,), (26,)), ignore=(0, 1))
    label = palette_label([0, 1], {0: ROAD, 1: CAR, 7: CAR})
    with pytest.raises(UserError, match=r"index 0 of its palette is the id of what is ignored, but .* of road"):
        LabelDecoder(classes).decode(label, "x.png")


def make(root: Path, label: Image.Image, classes: str = YAML, suffix: str = ".png") -> FolderDataset:
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", label.size).save(root / "images/train/a.jpg")
    label.save(root / f"labels/train/a{suffix}", quality=95)
    (root / "map.yaml").write_text(classes)
    return FolderDataset(str(root), "train", str(root / "map.yaml"), labels="labels/{split}/{id}" + suffix)


TRUTH = np.arange(6 * 9).reshape(6, 9) % 4
COLORS = np.array([ROAD, CAR, SKY, DARK], dtype=np.uint8)
EXPECTED = np.array([0, 1, 2, 255])[TRUTH]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_files_of_colours(tmp_path: Path, mode: str, suffix: str) -> None:
    picture = Image.fromarray(COLORS[TRUTH])
    picture = picture.quantize(colors=4, dither=Image.Dither.NONE) if mode == "P" else picture.convert(mode)
    data = make(tmp_path, picture, suffix=suffix)
    assert data.label(0).dtype == np.uint8
    np.testing.assert_array_equal(data.label(0), EXPECTED)


def test_files_of_colours_with_a_label_map(tmp_path: Path) -> None:
    colors = np.array([(1, 2, 3), (4, 5, 6), (9, 8, 7), (0, 0, 0)], dtype=np.uint8)
    data = make(tmp_path, Image.fromarray(colors[TRUTH]))
    with pytest.raises(UserError, match=r"4, 5, 6\] \(14\).*ignore_colors"):
        data.label(0)
    (tmp_path / "labelmap.txt").write_bytes(LABEL_MAP)
    labelled = make(tmp_path, Image.fromarray(colors[TRUTH]))
    np.testing.assert_array_equal(labelled.label(0), EXPECTED)
    assert labelled.fingerprint() != data.fingerprint()
    assert labelled.content() != data.content()
    (added,) = (labelled.digests("labels") or {}).keys() - (data.digests("labels") or {}).keys()
    assert added == "labelmap.txt"
    # It is read for colours alone.
    (tmp_path / "labelmap.txt").write_bytes(b"something else")
    ids = np.array([7, 26, 23, 255], dtype=np.uint8)[TRUTH]
    np.testing.assert_array_equal(make(tmp_path, Image.fromarray(ids)).label(0), EXPECTED)


def transparent(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    alpha = np.full((*pixels.shape[:2], 1), 255, dtype=np.uint8)
    alpha[0, :3, 0] = (0, 128, 254)
    return Image.fromarray(np.concatenate([pixels, alpha], axis=2))


def ids_in_three_channels(others: int) -> Image.Image:
    return Image.fromarray((TRUTH[..., None] * [1, others, others]).astype(np.uint8))


@pytest.mark.parametrize(
    ("label", "suffix", "words"),
    [
        (Image.fromarray(COLORS[TRUTH] + np.uint8(1)), ".png", "54 pixels have colours that .*map.yaml does not name"),
        (transparent(COLORS[TRUTH]), ".png", "3 pixels of the label are transparent"),
        (transparent(TRUTH[..., None].astype(np.uint8)), ".png", "3 pixels of the label are transparent"),
        (ids_in_three_channels(1), ".png", "if the first channel holds the ids, save it alone"),
        (ids_in_three_channels(0), ".png", "if the first channel holds the ids, save it alone"),  # as CARLA
        (Image.fromarray(TRUTH.astype(np.int32)), ".tif", r"label has 32 bits \(mode I\); save it with 8 bits"),
        (Image.fromarray(COLORS[TRUTH]), ".jpg", "is a JPEG, whose values are not exact"),
        (Image.fromarray(COLORS[TRUTH]).convert("CMYK"), ".tif", "4 channels in mode CMYK"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, label: Image.Image, suffix: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        make(tmp_path, label, suffix=suffix).label(0)
    assert str(caught.value).startswith(str(tmp_path / f"labels/train/a{suffix}: "))
    assert "\n" not in str(caught.value)
