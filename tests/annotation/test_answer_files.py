"""Files of answers as people and programs make them: unpainted pixels, other names, zips, colours and 16 bits."""

import io
import shutil
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ripu_lightning.annotation import AnswersPending, FileAnnotator, Query
from ripu_lightning.annotation.answer_names import AnswerNames
from ripu_lightning.class_map import ClassMap
from ripu_lightning.data import FolderDataset
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import UserError

SIZE = (8, 10)
IDS = ["x/0", "x/1", "y/2.b", "été/3"]
COLORS = ((10, 20, 30), (70, 130, 180), (0, 60, 100))
PLAIN = ClassMap(("road", "sky", "tree"), COLORS)
WIDE = ClassMap(("road", "sky", "tree"), COLORS, ids=((7,), (1000,), (26001, 5)), ignore=(0, 65535))
TRUTH = np.random.default_rng(1).choice(np.array([0, 1, 2, 255], dtype=np.uint8), (len(IDS), *SIZE))


class Pictures(SegmentationDataset):
    """Grey pictures whose truth nobody may open."""

    def __init__(self, classes: ClassMap = PLAIN) -> None:
        self.classes, self.ids = classes, IDS

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        return np.full((*SIZE, 3), 90, dtype=np.uint8)

    def label(self, index: int) -> npt.NDArray[np.uint8]:
        raise AssertionError("the truth was opened")

    def size(self, index: int) -> tuple[int, int]:
        return SIZE


def query(index: int, whole: bool = False) -> Query:
    """Two boxes with 9 and 4 pixels, or the image."""
    boxes = np.array([[0, 0, *SIZE]] if whole else [[1, 1, 3, 3], [5, 6, 2, 2]], dtype=np.int32)
    return Query(index, IDS[index], boxes[:, :2].copy(), boxes, None, np.ones(len(boxes), dtype=np.float32))


def values_of(label: npt.NDArray[np.generic], each: Query) -> list[int]:
    return [value for top, left, h, w in each.boxes.tolist()
            for value in label[top : top + h, left : left + w].reshape(-1).tolist()]  # fmt: skip


class Round:
    """A round that waits for the answers to some images: by default x/0 and été/3."""

    def __init__(self, folder: Path, classes: ClassMap = PLAIN, indices: tuple[int, ...] = (0, 3), whole: bool = False):
        self.annotator = FileAnnotator(Pictures(classes), folder)
        self.queries, self.folder = [query(index, whole) for index in indices], folder / "round_001"
        self.answers, self.archive = self.folder / "answers", self.folder / "answers.zip"
        with pytest.raises(AnswersPending):
            self.read()

    def read(self) -> list[list[int]]:
        return [found.values.tolist() for found in self.annotator.annotate(1, self.queries)]

    def waits(self) -> str:
        with pytest.raises(AnswersPending) as waiting:
            self.read()
        line = str(waiting.value)
        assert "\n" not in line
        return line

    def refuses(self) -> str:
        with pytest.raises(UserError) as error:
            self.read()
        assert not isinstance(error.value, AnswersPending)
        assert "\n" not in str(error.value)
        return str(error.value)

    @property
    def expected(self) -> list[list[int]]:
        return [values_of(TRUTH[each.index], each) for each in self.queries]

    def put(self, name: str, content: bytes) -> Path:
        path = self.answers / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def pack(self, members: dict[str, bytes]) -> None:
        with zipfile.ZipFile(self.archive, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)


@pytest.fixture
def waiting(tmp_path: Path) -> Round:
    return Round(tmp_path)


def png(pixels: npt.NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


FIRST, LAST = png(TRUTH[0]), png(TRUTH[3])


# Unpainted pixels


def test_templates_are_no_answers(waiting: Round) -> None:
    assert "of which 2 have no answers yet (the first is x/0.png)" in waiting.waits()
    waiting.put("x/0.png", FIRST)
    assert "of which 1 have no answers yet (the first is été/3.png)" in waiting.waits()
    waiting.put("été/3.png", LAST)
    assert waiting.read() == waiting.expected


@pytest.mark.parametrize("keeps_text", [True, False])
def test_a_template_that_was_painted_in_part(waiting: Round, keeps_text: bool) -> None:
    waiting.put("x/0.png", FIRST)
    path = waiting.answers / "été" / "3.png"
    with Image.open(path) as picture:
        pixels, text = np.array(picture), picture.text
    options = {"pnginfo": _chunks(text)} if keeps_text else {}
    pixels[1:4, 1:4] = TRUTH[3][1:4, 1:4]
    path.write_bytes(png(pixels, **options))
    assert "of which 1 are painted in part (été/3.png: 4 of 13 queried pixels are left)" in waiting.waits()
    pixels[5:7, 6:8] = TRUTH[3][5:7, 6:8]
    path.write_bytes(png(pixels, **options))
    assert waiting.read() == waiting.expected


def _chunks(text: dict[str, str]) -> object:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    return chunks


BINARY = ClassMap(("no", "yes"), ids=((0,), (255,)), ignore=())
MARKED = ClassMap(("road", "sky", "tree"), ids=((1,), (2,), (3,)), ignore=(0, 255))


def layer(value: int, painted: int | None = None) -> npt.NDArray[np.uint8]:
    """One value everywhere, and another one in the first box."""
    pixels = np.full(SIZE, value, dtype=np.uint8)
    if painted is not None:
        pixels[1:4, 1:4] = painted
    return pixels


ASKED = layer(0, 255)
ASKED[5:7, 6:8] = 255
EMPTY = {  # class map, pixels, queried pixels that may be unpainted, and what they hold
    "black, and 0 is a class": (PLAIN, layer(0), 13, "0"),
    "black, and 0 is ignored": (MARKED, layer(0), 13, "0"),
    "white, and 255 is ignored": (PLAIN, layer(255), 13, "255"),
    "white, and 255 is a class": (BINARY, layer(255), 13, "255"),
    "one box of two": (PLAIN, layer(0, 1), 4, "0"),
    "the other class": (BINARY, layer(0, 255), 4, "0"),
    "the mask of queries": (PLAIN, ASKED, 13, "255, as in asked/"),
    "colours": (ClassMap(("dark", "sky"), ((0, 0, 0), (1, 2, 3))), np.dstack([layer(0)] * 3), 13, "[0, 0, 0]"),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_an_empty_layer_is_no_answer_until_somebody_says_so(tmp_path: Path, kind: str) -> None:
    classes, pixels, count, held = EMPTY[kind]
    waiting = Round(tmp_path, classes, (0,))
    waiting.put("x/0.png", png(pixels))
    line = waiting.waits()
    assert f"of which 1 look unpainted, for all other pixels hold the same (x/0.png: {count} of 13 queried" in line
    assert f" hold {held}; where that is right, write the image's id into answers/painted.txt)" in line
    waiting.put("painted.txt", b"\xef\xbb\xbf\r\n./x/0.png\r\n")
    table = classes.lookup()
    expected = table[pixels] if pixels.ndim == 2 else np.zeros(SIZE)
    assert waiting.read() == [values_of(expected, waiting.queries[0])]


FULL = {
    "a label map with zeros outside": (PLAIN, np.eye(*SIZE, dtype=np.uint8)),
    "one class that no empty layer has": (PLAIN, layer(1)),
    "void in one box": (MARKED, np.where(layer(0, 1) == 1, 2, 255).astype(np.uint8)),
}


@pytest.mark.parametrize(
    "kind", ["a label map with zeros outside", "one class that no empty layer has", "void in one box"]
)
def test_complete_label_maps_are_answers(tmp_path: Path, kind: str) -> None:
    classes, pixels = FULL[kind]
    waiting = Round(tmp_path, classes, (0,))
    waiting.put("x/0.png", png(pixels))
    assert waiting.read() == [values_of(classes.lookup()[pixels], waiting.queries[0])]


def test_a_black_layer_painted_in_part_is_waited_for_although_0_is_ignored(tmp_path: Path) -> None:
    waiting = Round(tmp_path, ClassMap(("road", "car"), ids=((7,), (26,)), ignore=(0, 255)), (0,))
    waiting.put("x/0.png", png(layer(0, 7)))
    assert "of 13 queried pixels hold 0" in waiting.waits()


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_pixels_of_a_transparent_value_are_unpainted(tmp_path: Path, mode: str) -> None:
    """A layer as drawing programs save it: one number or colour is transparent, here that of a class."""
    classes = ClassMap(("road", "car"), ((0, 0, 0), (1, 1, 1)))
    waiting, ids = Round(tmp_path, classes, (0,)), np.ones(SIZE, dtype=np.uint8)
    ids[1] = 0  # three pixels of the first box
    picture = Image.fromarray(ids if mode != "RGB" else np.dstack([ids] * 3))
    if mode == "P":
        picture.putpalette([0, 0, 0, 1, 1, 1] + [0] * 750)
    content = io.BytesIO()
    picture.save(content, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    waiting.put("x/0.png", content.getvalue())
    assert "x/0.png: 3 of 13 queried pixels are left" in waiting.waits()


def test_an_empty_layer_for_a_whole_image(tmp_path: Path) -> None:
    waiting = Round(tmp_path, PLAIN, (0,), whole=True)
    waiting.put("x/0.png", png(layer(0)))
    assert "x/0.png: 80 of 80 queried pixels hold 0" in waiting.waits()
    waiting.put("x/0.png", png(layer(0, 1)))
    assert waiting.read() == [layer(0, 1).reshape(-1).tolist()]
    # As ripu-labels export writes it.
    waiting.put("x/0.png", png(layer(0), pnginfo=_chunks({"ripu:values": "id", "ripu:unlabelled": "254"})))
    assert waiting.read() == [[0] * 80]


def test_what_lies_where_nobody_looks_is_named(waiting: Round) -> None:
    (waiting.folder / "painted.txt").write_text("x/0")
    (waiting.folder / "answers.zip").mkdir()
    waiting.put("sub/painted.txt", b"x/0")
    (waiting.folder / "elsewhere").mkdir()
    (waiting.answers / "linked").symlink_to(waiting.folder / "elsewhere", target_is_directory=True)
    named = waiting.waits().partition("files that are no PNG of a queried image: ")[2]
    assert named == "answers.zip, elsewhere, painted.txt, answers/linked, answers/sub/painted.txt"


def test_a_grey_class_is_not_taken_for_unpainted(tmp_path: Path) -> None:
    classes = ClassMap(("road", "snow"), ((9, 9, 9), (254, 254, 254)))
    waiting, colors = Round(tmp_path, classes, (0,)), np.array(((9, 9, 9), (254, 254, 254)), dtype=np.uint8)
    label = np.indices(SIZE).sum(axis=0) % 2
    waiting.put("x/0.png", png(colors[label]))
    assert waiting.read() == [values_of(label, waiting.queries[0])]


def test_statements_about_other_images_are_refused(waiting: Round) -> None:
    path = waiting.put("painted.txt", b"x/0\nx/1\n")
    assert waiting.refuses() == f"{path}, line 2: 'x/1' is no queried image; give one id a line"
    path.write_bytes("x/0".encode("utf-16"))
    assert f"{path}: is no UTF-8 text" in waiting.refuses()


# Names

NAMES = ["x/0.png", "x/0.PNG", "x/0.jpg.png", "x/0.JPEG.Png", "anna/x/0.png", "0.png", "round_001/answers/x/0.png"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_mean_an_image(waiting: Round, name: str) -> None:
    waiting.put("été/3.png", LAST)
    waiting.put(name, FIRST)
    for junk in (".DS_Store", "x/._0.png", "__MACOSX/x/0.png", "Thumbs.db", "desktop.ini"):
        waiting.put(junk, b"junk")
    assert waiting.read() == waiting.expected


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_any_form(waiting: Round, form: str) -> None:
    waiting.put("x/0.png", FIRST)
    shutil.rmtree(waiting.answers / "été")
    waiting.put(unicodedata.normalize(form, "été/3.png"), LAST)
    assert waiting.read() == waiting.expected


@pytest.mark.parametrize("name", ["0.jpg", "x/0.tif", "other.png", "x/1.png", "0 (1).png", "b.png", "answers.zip"])
def test_files_for_no_queried_image_are_named(waiting: Round, name: str) -> None:
    waiting.put("x/0.png", FIRST)
    waiting.put(name, LAST)
    (waiting.folder / "3.png").write_bytes(LAST)
    line = waiting.waits()
    assert "1 have no answers yet (the first is été/3.png)" in line
    assert line.endswith(f"; files that are no PNG of a queried image: 3.png, answers/{name}")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_without_folders_in_any_form(form: str) -> None:
    names = AnswerNames([unicodedata.normalize(form, "é"), "e", "ü/é.x"])
    for given in ("NFC", "NFD"):
        assert names.find(unicodedata.normalize(given, "é.PNG")) == unicodedata.normalize(form, "é")
        assert names.find(unicodedata.normalize(given, "é.x.png")) == "ü/é.x"
    assert names.find("e.png") == "e"
    assert names.find("../e.png") is names.find("/e.png") is names.find("e.jpg") is None


def test_an_id_in_a_folder_of_a_name_that_has_a_meaning() -> None:
    names = AnswerNames(["pictures/1", "asked/1", "2"])
    assert names.find("pictures/1.png") == names.find("round_001/answers/pictures/1.png") == "pictures/1"
    assert names.find("round_001/answers/2.png") == names.find("2.png") == "2"
    assert names.find("round_001/asked/2.png") is names.find("round_001/asked/pictures/1.png") is None


def test_a_name_for_two_images(tmp_path: Path) -> None:
    waiting = Round(tmp_path, indices=(0, 1))
    waiting.annotator._images.dataset.ids = ["x/0", "z/0"]
    waiting.queries[1] = Query(1, "z/0", *list(vars(waiting.queries[1]).values())[2:])
    shutil.rmtree(waiting.folder)
    waiting.annotator = FileAnnotator(waiting.annotator._images.dataset, tmp_path)
    waiting.waits()
    waiting.put("0.png", FIRST)
    assert "files that are no PNG of a queried image: answers/0.png" in waiting.waits()


def test_two_files_for_one_image(waiting: Round) -> None:
    waiting.put("été/3.png", LAST)
    path = waiting.put("x/0.png", FIRST)
    other = waiting.put("anna/x/0.png", png(TRUTH[1]))
    line = waiting.refuses()
    assert line.endswith("answer the same queries differently; keep one of them")
    assert str(path) in line
    assert str(other) in line
    other.write_bytes(FIRST)
    assert waiting.read() == waiting.expected
    other.unlink()
    waiting.pack({"x/0.png": png(TRUTH[1])})
    assert f"{path} and {waiting.archive}: x/0.png answer the same queries differently" in waiting.refuses()


# Zips

ZIPS: dict[str, Callable[[bytes, bytes], dict[str, bytes]]] = {
    "macOS": lambda a, b: {"answers/x/0.png": a, "answers/été/3.png": b, "__MACOSX/answers/x/._0.png": b"\0\5\26\7",
                           "answers/.DS_Store": b"", "__MACOSX/._answers": b""},
    "folder on top": lambda a, b: {"Round 1/": b"", "Round 1/x/": b"", "Round 1/x/0.png": a, "Round 1/été/3.png": b},
    "the round's folder": lambda a, b: {
        "round_001/answers/x/0.png": a, "round_001/answers/été/3.png": b, "round_001/asked/x/0.png": b"no answer",
        "round_001/pictures/x/0.jpg": b"", "round_001/README.txt": b"", "round_001/queries.parquet": b""},
    "Windows": lambda a, b: {"answers\\x\\0.PNG": a, "answers\\été\\3.png": b, "answers\\Thumbs.db": b""},
    "flat": lambda a, b: {"0.jpg.png": a, "3.png": b},
}  # fmt: skip


@pytest.mark.parametrize("kind", ZIPS)
def test_zips_of_other_programs(waiting: Round, kind: str) -> None:
    waiting.pack(ZIPS[kind](FIRST, LAST))
    assert waiting.read() == waiting.expected
    assert not list(waiting.folder.glob("Round*"))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("says_utf_8", [True, False])
def test_accents_in_zips(waiting: Round, form: str, says_utf_8: bool) -> None:
    name = unicodedata.normalize(form, "été/3.png")
    waiting.pack({"x/0.png": FIRST, name: LAST})
    if not says_utf_8:  # as older versions of macOS pack: UTF-8, but not marked so
        content = bytearray(waiting.archive.read_bytes())
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = -1
            while (at := content.find(signature, at + 1)) >= 0:
                content[at + offset + 1] &= ~0x08 & 0xFF
        waiting.archive.write_bytes(content)
        assert name not in zipfile.ZipFile(waiting.archive).namelist()
    assert waiting.read() == waiting.expected


def test_two_members_for_one_image(waiting: Round) -> None:
    waiting.pack({"x/0.png": FIRST, "été/3.png": LAST, "anna/x/0.PNG": FIRST})
    assert waiting.refuses() == (
        f"{waiting.archive}: 'anna/x/0.PNG' is there twice, also as 'x/0.png'; pack every image once"
    )


def test_an_encrypted_zip(waiting: Round) -> None:
    waiting.pack({"x/0.png": FIRST, "été/3.png": LAST})
    content = bytearray(waiting.archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + offset] |= 1
    waiting.archive.write_bytes(content)
    line = waiting.refuses()
    assert line.startswith(f"{waiting.archive}: x/0.png cannot be unpacked (")
    assert "encrypted" in line


def test_statements_in_a_zip(tmp_path: Path) -> None:
    waiting = Round(tmp_path, PLAIN, (0,))
    waiting.pack({"answers/x/0.png": png(layer(0)), "answers/painted.txt": b"x/0"})
    assert waiting.read() == [[0] * 13]


# Colours and CVAT

LABEL_MAP = b"# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\nsky:1,1,1::\ntree:0,255,0::\n"
IN_CVAT = np.array([[128, 64, 128], [1, 1, 1], [0, 255, 0]], dtype=np.uint8)


def cvat(classes: dict[str, npt.NDArray[np.uint8]]) -> dict[str, bytes]:
    """The files of CVAT's "Segmentation mask 1.1"."""
    members = {"labelmap.txt": LABEL_MAP, "ImageSets/Segmentation/default.txt": "\n".join(classes).encode()}
    for image_id, label in classes.items():
        colors = np.zeros((*SIZE, 3), dtype=np.uint8)
        colors[label < 3] = IN_CVAT[label[label < 3]]
        members[f"SegmentationClass/{image_id}.png"] = png(colors)
        members[f"SegmentationObject/{image_id}.png"] = png(colors[::-1].copy())
        members[f"JPEGImages/{image_id}.png"] = png(colors)
    return members


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("top", ["", "task_7/"])
def test_cvat_segmentation_mask(waiting: Round, packed: bool, top: str) -> None:
    labels = {image_id: np.minimum(TRUTH[IDS.index(image_id)], 2) for image_id in ("x/0", "été/3")}
    labels["été/3"][5, 6] = 255  # background

    def give() -> None:
        files = {top + name: content for name, content in cvat(labels).items()}
        if packed:
            waiting.pack(files)
        for name, content in files.items():
            if not packed:
                waiting.put(name, content)

    give()
    assert "of which 1 are painted in part (été/3.png: 1 of 13 queried pixels are left)" in waiting.waits()
    labels["été/3"][5, 6] = 1
    give()
    assert waiting.read() == [values_of(labels[each.image_id], each) for each in waiting.queries]


def test_cvat_may_know_further_images_of_the_data_set(waiting: Round) -> None:
    labels = {image_id: np.minimum(TRUTH[IDS.index(image_id)], 2) for image_id in ("x/0", "x/1", "été/3")}
    waiting.pack(cvat(labels))
    assert waiting.read() == [values_of(labels[each.image_id], each) for each in waiting.queries]
    waiting.pack({**cvat(labels), "SegmentationClass/x/7.png": FIRST})
    assert "'SegmentationClass/x/7.png' is the answer to no queried image" in waiting.refuses()


def test_a_background_of_another_colour(waiting: Round) -> None:
    files = cvat({"x/0": np.minimum(TRUTH[0], 2), "été/3": np.full(SIZE, 255, dtype=np.uint8)})
    files["SegmentationClass/été/3.png"] = png(np.full((*SIZE, 3), 9, dtype=np.uint8))
    waiting.pack({**files, "labelmap.txt": LABEL_MAP.replace(b"background:0,0,0", b"background:9,9,9")})
    assert "of which 1 have no answers yet (the first is été/3.png)" in waiting.waits()


def test_a_label_of_cvat_that_is_no_class(waiting: Round) -> None:
    labels = {"x/0": TRUTH[0], "été/3": TRUTH[3]}
    waiting.pack({**cvat(labels), "labelmap.txt": LABEL_MAP.replace(b"tree", b"bush")})
    assert "labelmap.txt, line 5: the label 'bush' is no class" in waiting.refuses()


def painted(index: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    pixels = np.zeros((*SIZE, channels), dtype=np.uint8)
    for class_index, color in enumerate(COLORS):
        pixels[TRUTH[index] == class_index] = [*color, 255][:channels]
    return pixels


def test_the_colours_of_the_class_map(tmp_path: Path) -> None:
    classes = ClassMap(PLAIN.names, COLORS, ignore_colors=((255, 255, 255),))
    waiting = Round(tmp_path, classes)
    for index, name in ((0, "x/0.png"), (3, "été/3.png")):
        pixels = painted(index)
        pixels[TRUTH[index] == 255] = 255
        waiting.put(name, png(pixels))
    assert waiting.read() == waiting.expected
    pixels[5, 6] = 0
    waiting.put("été/3.png", png(pixels))
    assert "été/3.png: 1 of 13 queried pixels are left" in waiting.waits()
    pixels[5, 6] = 254  # a template that was saved in colours
    waiting.put("été/3.png", png(pixels))
    assert "été/3.png: 1 of 13 queried pixels are left" in waiting.waits()
    pixels[5, 6] = COLORS[1][0] + 1, *COLORS[1][1:]
    path = waiting.put("été/3.png", png(pixels))
    assert f"{path}: 1 queried pixels have colours that belong to no class ([71, 130, 180] (1))" in waiting.refuses()


def test_a_transparent_layer(tmp_path: Path) -> None:
    waiting = Round(tmp_path, indices=(0,))
    pixels = painted(0, 4)
    for top, left, height, width in waiting.queries[0].boxes.tolist():
        box = pixels[top : top + height, left : left + width]
        box[box[..., 3] == 0] = *COLORS[2], 255
    pixels[1, 1] = *COLORS[0], 0  # erased: the colour is still there
    waiting.put("x/0.png", png(pixels))
    assert "x/0.png: 1 of 13 queried pixels are left" in waiting.waits()
    pixels[1, 1, 3] = 255
    waiting.put("x/0.png", png(pixels))
    expected = np.minimum(TRUTH[0], 2)
    expected[1, 1] = 0
    assert waiting.read() == [values_of(expected, waiting.queries[0])]
    pixels[1, 1, 3] = 128  # half erased
    waiting.put("x/0.png", png(pixels))
    assert "1 pixels of the label are transparent" in waiting.refuses()


def test_colours_that_nobody_chose(tmp_path: Path) -> None:
    waiting = Round(tmp_path, ClassMap(PLAIN.names), (0,))
    assert "colour" not in (waiting.folder / "README.txt").read_text()
    waiting.put("x/0.png", png(painted(0)))
    assert "does not give every class its color" in waiting.refuses()


# 16 bits


def test_ids_above_255(tmp_path: Path) -> None:
    waiting = Round(tmp_path, WIDE)
    with Image.open(waiting.answers / "x" / "0.png") as template:
        assert (template.mode, np.unique(np.array(template)).tolist()) == ("I;16", [255])
    assert "one channel of 16 bits" in (waiting.folder / "README.txt").read_text()
    ids = np.full(256, 65535, dtype=np.uint16)
    ids[:3] = 7, 1000, 26001
    for index, name in ((0, "x/0.png"), (3, "été/3.png")):
        waiting.put(name, png(ids[TRUTH[index]]))
    assert waiting.read() == waiting.expected
    waiting.put("été/3.png", png((ids[TRUTH[3]] >> 8).astype(np.uint8)))  # as programs cut 16 bits to 8
    assert "has 8 bits, but the class map has ids above 255" in waiting.refuses()
    waiting.put("été/3.png", png(ids[TRUTH[3]] + np.uint16(1) * (ids[TRUTH[3]] == 1000)))
    assert "hold numbers that belong to no class (1001)" in waiting.refuses()


# Pictures that are turned when they are shown


def test_files_have_the_size_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images" / "train").mkdir(parents=True)
    stored = np.full((10, 8, 3), 90, dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "images" / "train" / "a.jpg", exif=exif)
    (tmp_path / "classes.yaml").write_text("classes: [road, sky, tree]\n")
    data = FolderDataset(str(tmp_path), "train", str(tmp_path / "classes.yaml"), labels=None)
    annotator = FileAnnotator(data, tmp_path / "annotation")
    boxes = np.array([[5, 6, 2, 2]], dtype=np.int32)
    queries = [Query(0, "a", boxes[:, :2].copy(), boxes, None, np.ones(1, dtype=np.float32))]
    with pytest.raises(AnswersPending):
        annotator.annotate(1, queries)
    folder = tmp_path / "annotation" / "round_001"
    for name in ("asked/a.png", "answers/a.png", "pictures/a.jpg"):
        with Image.open(folder / name) as picture:
            assert picture.size == (10, 8)
            assert picture.getexif().get(0x0112, 1) == 1
    shown = np.arange(80, dtype=np.uint8).reshape(8, 10) % 3
    Image.fromarray(np.rot90(shown)).save(folder / "answers" / "a.png")
    with pytest.raises(UserError, match=r"a\.png: is 8x10, but its image is 10x8"):
        list(annotator.annotate(1, queries))
    Image.fromarray(shown).save(folder / "answers" / "a.png")
    assert [found.values.tolist() for found in annotator.annotate(1, queries)] == [shown[5:7, 6:8].reshape(-1).tolist()]
