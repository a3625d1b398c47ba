"""Annotation by files against the oracle: what is exported, what is read back, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from ripu_lightning.acquisition import Pixel, Square, Superpixel, WholeImage
from ripu_lightning.annotation import AnswersPending, FileAnnotator, GroundTruth, Query
from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import UserError

CLASSES = ClassMap(("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), ids=((7, 9), (3,), (200,)), ignore=(0, 255))
SIZES = [(12, 18), (15, 10), (9, 9)]
GEOMETRIES = {"pixel": Pixel(), "square": Square(1), "superpixel": Superpixel(8), "image": WholeImage()}


class Towns(SegmentationDataset):
    """Pictures of several sizes in subfolders; ``opened`` counts how often the truth was read."""

    def __init__(self) -> None:
        self.classes, self.ids, self.opened = CLASSES, ["x/0", "x/1", "y/2"], 0

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        return np.random.default_rng(index).integers(0, 200, (*SIZES[index], 3), dtype=np.uint8)

    def label(self, index: int) -> npt.NDArray[np.uint8]:
        self.opened += 1
        return np.random.default_rng([5, index]).choice(np.array([0, 1, 2, 255], dtype=np.uint8), SIZES[index])

    def size(self, index: int) -> tuple[int, int]:
        return SIZES[index]


def queries(region_type: str) -> list[Query]:
    """Two regions (or the image) of the images 0 and 2, as the loop makes them."""
    made = []
    for index in (0, 2):
        height, width = SIZES[index]
        regions = torch.from_numpy(np.add.outer(np.arange(height), np.arange(width)) // 5)
        positions = {"image": [0], "superpixel": []}.get(region_type, [width + 2, 5 * width])
        at = torch.tensor(positions)
        if region_type == "superpixel":
            at = GEOMETRIES[region_type].positions(torch.tensor([2, 0]), regions)
        outline = GEOMETRIES[region_type].outline(at, SIZES[index], regions)
        centres = torch.stack((at // width, at % width), dim=1).numpy().astype(np.int32)
        inside = None if outline.inside is None else outline.inside.numpy()
        scores = np.linspace(1, 0.5, len(at), dtype=np.float32)
        made.append(Query(index, Towns().ids[index], centres, outline.boxes.numpy().astype(np.int32), inside, scores))
    return made


def asked(query: Query) -> npt.NDArray[np.bool_]:
    """Pixel by pixel from the boxes."""
    mask, position = np.zeros(SIZES[query.index], dtype=bool), 0
    for top, left, height, width in query.boxes.tolist():
        for row in range(top, top + height):
            for column in range(left, left + width):
                mask[row, column] |= query.inside is None or bool(query.inside[position])
                position += 1
    return mask


def write_answers(folder: Path, given: list[Query], elsewhere: int = 77) -> None:
    """The truth in file ids at queried pixels, a number that is no class at all others."""
    for query in given:
        truth, ids = Towns().label(query.index), np.full(256, 255, dtype=np.uint8)
        ids[:3] = [9, 3, 200]
        path = folder / "answers" / f"{query.image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(asked(query), ids[truth], elsewhere).astype(np.uint8)).save(path)


@pytest.mark.parametrize("region_type", GEOMETRIES)
def test_answers_are_those_of_the_oracle(tmp_path: Path, region_type: str) -> None:
    dataset, given = Towns(), queries(region_type)
    annotator = FileAnnotator(dataset, tmp_path)
    with pytest.raises(AnswersPending, match=r"round 4 waits for answers: .* in 2 images") as waiting:
        annotator.annotate(4, given)
    assert f": {sum(len(query.centres) for query in given)} regions in" in str(waiting.value)
    assert "of which 2 have no answers yet (the first is x/0.png)" in str(waiting.value)
    assert "\n" not in str(waiting.value)
    write_answers(tmp_path / "round_004", given)
    found = list(annotator.annotate(4, given))
    assert dataset.opened == 0
    for one, other in zip(found, GroundTruth(dataset).annotate(4, given), strict=True):
        assert one.image_id == other.image_id
        for name in ("centres", "boxes", "values", "scores"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype


@pytest.mark.parametrize("region_type", GEOMETRIES)
def test_queried_pixels_are_shown(tmp_path: Path, region_type: str) -> None:
    given = queries(region_type)
    with pytest.raises(AnswersPending):
        FileAnnotator(Towns(), tmp_path).annotate(1, given)
    folder = tmp_path / "round_001"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.txt", "answers", "asked", "pictures", "queries.parquet"
    ]  # fmt: skip
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")) == [
        "answers/x/0.png", "answers/y/2.png", "asked/x/0.png", "asked/y/2.png"
    ]  # fmt: skip
    for query in given:
        mask = asked(query)
        with Image.open(folder / "answers" / f"{query.image_id}.png") as template:
            assert (template.mode, template.size) == ("L", (mask.shape[1], mask.shape[0]))
            assert np.unique(np.array(template)).tolist() == [254]
        with Image.open(folder / "asked" / f"{query.image_id}.png") as picture:
            assert picture.mode == "L"
            assert np.array_equal(np.array(picture), np.where(mask, 255, 0))
        with Image.open(folder / "pictures" / f"{query.image_id}.jpg") as picture:
            shown = np.array(picture).astype(int)
        padded = np.pad(mask, 1)
        near = np.any([np.roll(padded, (r, c), (0, 1)) for r in (-1, 0, 1) for c in (-1, 0, 1)], axis=0)[1:-1, 1:-1]
        frame = near & ~mask
        assert (np.abs(shown[frame] - (255, 0, 255)).mean(axis=0) < 40).all() if frame.any() else region_type == "image"
        if mask.sum() > 30:
            assert np.abs(shown[mask] - Towns().image(query.index)[mask]).mean() < 40
    text = (folder / "README.txt").read_text()
    assert "7 9               1 2 3           a" in text
    assert "0 255                             cannot say" in text
    assert "254 everywhere" in text
    assert "one channel of 8 bits" in text
    assert f"{sum(len(query.centres) for query in given)} regions in 2 images" in text


def grey(values: npt.NDArray[np.generic]) -> Image.Image:
    return Image.fromarray(values)


TURNED = Image.Exif()
TURNED[0x0112] = 3
RIGHT = np.full(SIZES[0], 3, dtype=np.uint8)
FAULTS = {
    "size": (lambda path: grey(RIGHT[:-1]).save(path), "is 18x11, but its image is 18x12"),
    "unknown": (lambda path: grey(RIGHT + 1).save(path), r"15 queried pixels hold numbers .* \(4\).*README\.txt"),
    "colours": (lambda path: Image.fromarray(np.dstack([RIGHT] * 3)).save(path), r"have colours .*\[3, 3, 3\] \(15\)"),
    "wide": (lambda path: Image.fromarray(RIGHT.astype(np.uint16)).save(path), "16-bit or wider"),
    "narrow": (lambda path: grey(RIGHT > 2).save(path), r"hold numbers .* \(1\)"),
    "turned": (lambda path: grey(RIGHT).save(path, exif=TURNED), "EXIF orientation 3"),
    "queries": (lambda path: shutil.copy(path.parents[2] / "asked" / "x" / "0.png", path), "from the folder asked/"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot be decoded"),
    "text": (lambda path: path.write_text("road"), "cannot be read as an image"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_impossible_answers(tmp_path: Path, fault: str) -> None:
    annotator, given = FileAnnotator(Towns(), tmp_path), queries("square")
    with pytest.raises(AnswersPending):
        annotator.annotate(1, given)
    write_answers(tmp_path / "round_001", given)
    path = tmp_path / "round_001" / "answers" / "x" / "0.png"
    FAULTS[fault][0](path)
    with pytest.raises(UserError, match=FAULTS[fault][1]) as error:
        list(annotator.annotate(1, given))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_palette_images_answer_by_their_indices(tmp_path: Path) -> None:
    annotator, given = FileAnnotator(Towns(), tmp_path), queries("pixel")
    with pytest.raises(AnswersPending):
        annotator.annotate(1, given)
    write_answers(tmp_path / "round_001", given)
    expected = [answers.values.tolist() for answers in annotator.annotate(1, given)]
    for path in (tmp_path / "round_001" / "answers").rglob("*.png"):
        picture = Image.open(path).copy()
        picture.putpalette(list(range(255, -1, -1)) * 3)
        picture.save(path)
        assert Image.open(path).mode == "P"
    assert [answers.values.tolist() for answers in annotator.annotate(1, given)] == expected


def test_one_missing_file_is_named(tmp_path: Path) -> None:
    annotator, given = FileAnnotator(Towns(), tmp_path), queries("pixel")
    with pytest.raises(AnswersPending):
        annotator.annotate(1, given)
    write_answers(tmp_path / "round_001", given[:1])
    with pytest.raises(AnswersPending, match=r"of which 1 have no answers yet \(the first is y/2\.png\)"):
        list(annotator.annotate(1, given))


def test_an_export_that_was_cut_short_is_redone(tmp_path: Path) -> None:
    annotator, given = FileAnnotator(Towns(), tmp_path / "deep" / "down"), queries("square")
    broken = Towns()
    broken.image = lambda index: Towns().image(0) if index == 0 else 1 / 0
    with pytest.raises(ZeroDivisionError):
        FileAnnotator(broken, tmp_path / "deep" / "down").annotate(1, given)
    assert not (tmp_path / "deep" / "down" / "round_001").exists()
    with pytest.raises(AnswersPending):
        annotator.annotate(1, given)
    assert [path.name for path in (tmp_path / "deep" / "down").iterdir()] == ["round_001"]
    assert len(list(tmp_path.rglob("asked/*/*.png"))) == 2


def test_other_queries_of_a_round_and_rejected_answers_have_folders_of_their_own(tmp_path: Path) -> None:
    annotator, first, others = FileAnnotator(Towns(), tmp_path), queries("square"), queries("pixel")
    again = [replace(first[0], rejected=1), first[1]]
    for number, given in ((1, first), (2, others), (3, again)):
        folder = tmp_path / ("round_001" if number == 1 else f"round_001_{number}")
        assert annotator.held(1, given) is None
        with pytest.raises(AnswersPending, match=f"put them into {folder / 'answers'}, "):
            annotator.annotate(1, given)
        write_answers(folder, given[:1])
        assert annotator.held(1, given) == {"x/0"}
        write_answers(folder, given)
        assert annotator.held(1, given) == {"x/0", "y/2"}
        assert [each.values.tolist() for each in annotator.annotate(1, given)] == [
            each.values.tolist() for each in GroundTruth(Towns()).annotate(1, given)
        ]
    assert annotator.held(1, first[1:]) == {"y/2"}  # also some of the images alone
    assert len(list(annotator.annotate(1, first[1:]))) == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_partial_answers(tmp_path: Path) -> None:
    """One region of x/0 is painted, the other one and y/2 are not."""
    annotator, given = FileAnnotator(Towns(), tmp_path, partial=True), queries("square")
    for _ in range(2):  # the second time with untouched templates
        with pytest.raises(AnswersPending, match="2 have no answers yet"):
            list(annotator.annotate(1, given))
    write_answers(tmp_path / "round_001", given[:1])
    path = tmp_path / "round_001" / "answers" / "x" / "0.png"
    top, left = given[0].boxes[1, :2].tolist()
    with Image.open(path) as picture:
        painted = np.array(picture)
    with Image.open(path.parents[1] / "y" / "2.png") as picture:
        unlabelled = np.array(picture)[0, 0]
    painted[top, left] = unlabelled  # one pixel is enough
    Image.fromarray(painted).save(path)
    with pytest.warns(
        UserWarning, match=r"answers that are there are used .*x/0\.png: 1 of \d+ queried pixels are left"
    ):
        found = {each.image_id: each for each in annotator.annotate(1, given)}
    (truth,) = GroundTruth(Towns()).annotate(1, given[:1])
    size = int(given[0].boxes[0, 2:].prod())
    assert found["x/0"].boxes.tolist() == given[0].boxes[:1].tolist()
    assert found["x/0"].centres.tolist() == given[0].centres[:1].tolist()
    assert found["x/0"].values.tolist() == truth.values[:size].tolist()
    assert len(found["y/2"]) == 0
    with pytest.raises(AnswersPending, match="1 are painted in part"):
        list(FileAnnotator(Towns(), tmp_path).annotate(1, given))


def test_a_folder_that_was_lost_is_written_again(tmp_path: Path) -> None:
    annotator, given = FileAnnotator(Towns(), tmp_path), queries("superpixel")
    contents = []
    for _ in range(2):
        with pytest.raises(AnswersPending):
            annotator.annotate(1, given)
        contents.append({path: path.read_bytes() for path in (tmp_path / "round_001").rglob("*.*")})
        shutil.rmtree(tmp_path / "round_001")
    assert contents[0] == contents[1]
    assert len(contents[0]) == 8


def test_a_round_without_regions_waits_for_nobody(tmp_path: Path) -> None:
    nothing = Query(0, "x/0", *(np.zeros((0, n), np.int32) for n in (2, 4)), None, np.zeros(0, np.float32))
    assert list(FileAnnotator(Towns(), tmp_path).annotate(1, [nothing])) == []


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*round_001") as error:
        FileAnnotator(Towns(), tmp_path / "file").annotate(1, queries("pixel"))
    assert "\n" not in str(error.value)
