"""Exported stores, read back by Pillow, pycocotools and our own readers of labels and answers: not a pixel changes."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as decoder
from pycocotools.coco import COCO
from store_samples import CLASSES, IMAGES, commit, draw_answers, draw_round, slow_images, writer

from ripu_lightning.annotation import AnswersPending, FileAnnotator, Query
from ripu_lightning.class_map import ClassMap
from ripu_lightning.data import FolderDataset
from ripu_lightning.data.color_masks import LabelDecoder
from ripu_lightning.data.reading import read_label
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_QUERIED, VOID, Answers, LabelStore
from ripu_lightning.labels.export import write_labels

fuzzed = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def store_with(folder: Path, classes: ClassMap, answers: list[Answers]) -> LabelStore:
    with LabelStore.create_or_open(folder, classes=classes, images=IMAGES) as store:
        store.commit(answers, strategy="s", annotator="a", exclusion=0)
    return store


def stored_numbers(path: Path) -> npt.NDArray[np.int64]:
    with Image.open(path) as picture:
        return np.array(picture).astype(np.int64)


@st.composite
def class_maps(draw: st.DrawFn, most: int = 65535) -> ClassMap:
    """Maps of two to six classes, with several ids each, of 8 or 16 bits; some ignore nothing, some nearly all."""
    values = draw(st.lists(st.integers(0, most), min_size=6, max_size=24, unique=True))
    count = draw(st.integers(2, 6))
    split = draw(st.integers(count, len(values)))
    ids = tuple(tuple(values[index:split:count]) for index in range(count))
    ignore = [*values[split:], *(value for value in range(draw(st.sampled_from([0, 0, 256]))) if value not in values)]
    return ClassMap(tuple(f"c{index}" for index in range(count)), ids=ids, ignore=tuple(ignore))


def draw_labels(seed: int, classes: ClassMap) -> list[Answers]:
    """Answers about two of the sample images, with void ones where the map has a number for them."""
    rng, made = np.random.default_rng(seed), []
    for image in list(IMAGES)[:2]:
        answers = draw_answers(rng, image, IMAGES[image], 4)
        drawn = rng.integers(0, len(classes), answers.values.shape).astype(np.uint8)
        kept = (answers.values == NOT_QUERIED) | ((answers.values == VOID) & bool(classes.ignore))
        made.append(replace(answers, values=np.where(kept, answers.values, drawn).astype(np.uint8)))
    return made


def save_tree(root: Path, classes: ClassMap) -> None:
    """A data set of the sample images, whose labels are to come."""
    for image, size in IMAGES.items():
        path = root / "images" / "train" / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(path)
    listed = [{"name": name, "ids": list(ids)} for name, ids in zip(classes.names, classes.ids, strict=True)]
    (root / "classes.yaml").write_text(yaml.safe_dump({"classes": listed, "ignore": list(classes.ignore)}))


def queries_like(answers: Answers, index: int) -> Query:
    inside = answers.values != NOT_QUERIED
    return Query(index, answers.image_id, answers.centres, answers.boxes, inside, answers.scores)


by_any_class_map = given(classes=st.one_of(class_maps(), class_maps(255)), seed=st.integers(0, 999))


@pytest.mark.filterwarnings("ignore:.*files without partner are left out")
@fuzzed
@by_any_class_map
def test_back_as_labels_and_as_answers(tmp_path_factory: pytest.TempPathFactory, classes: ClassMap, seed: int) -> None:
    folder, given_answers = tmp_path_factory.mktemp("round_trip"), draw_labels(seed, classes)
    store = store_with(folder / "store", classes, given_answers)
    save_tree(folder / "data", classes)
    store.export_png(folder / "data" / "labels" / "train")
    numbers = {value for values in (*classes.ids, classes.ignore) for value in values}
    bits = 16 if max(numbers) > 255 or numbers.issuperset(range(256)) else 8

    labelled = FolderDataset(
        str(folder / "data"), "train", str(folder / "data" / "classes.yaml"), label_bits=bits, orphans="skip"
    )
    assert list(labelled.ids) == sorted(answers.image_id for answers in given_answers)
    for index, image in enumerate(labelled.ids):
        np.testing.assert_array_equal(labelled.label(index), store.mask(image))

    everything = FolderDataset(str(folder / "data"), "train", str(folder / "data" / "classes.yaml"), labels=None)
    annotator = FileAnnotator(everything, folder / "annotation")
    queries = [queries_like(answers, index) for index, answers in enumerate(given_answers)]
    queries = [query for query in queries if query.inside is not None and query.inside.any()]
    with pytest.raises(AnswersPending):
        annotator.annotate(1, queries)
    for query in queries:
        name = f"{query.image_id}.png"
        exported = folder / "data" / "labels" / "train" / name
        (folder / "annotation" / "round_001" / "answers" / name).write_bytes(exported.read_bytes())
    for query, found in zip(queries, annotator.annotate(1, queries), strict=True):
        mask, position = store.mask(query.image_id), 0
        for top, left, height, width in query.boxes.tolist():
            for row in range(top, top + height):
                for column in range(left, left + width):
                    expected = mask[row, column] if query.inside[position] else NOT_QUERIED
                    assert found.values[position] == expected
                    position += 1


@fuzzed
@by_any_class_map
def test_numbers_in_the_files(tmp_path_factory: pytest.TempPathFactory, classes: ClassMap, seed: int) -> None:
    folder, answers = tmp_path_factory.mktemp("numbers"), draw_labels(seed, classes)
    store = store_with(folder / "store", classes, answers)
    store.export_png(folder / "id")
    store.export_png(folder / "index", values="index")
    used = {value for values in (*classes.ids, classes.ignore) for value in values}
    unlabelled = max(set(range(256)) - used, default=max(set(range(65536)) - used))
    void = 255 if 255 in classes.ignore else [*classes.ignore, unlabelled][0]
    for each in answers:
        mask, _, queried = slow_images(IMAGES[each.image_id], [(0, each)])
        numbers = [ids[0] for ids in classes.ids]
        expected = [
            [
                unlabelled if not when else void if value == VOID else numbers[value]
                for value, when in zip(*row, strict=True)
            ]
            for row in zip(mask.tolist(), queried.tolist(), strict=True)
        ]
        path = folder / "id" / f"{each.image_id}.png"
        assert stored_numbers(path).tolist() == expected
        with Image.open(path) as picture:
            assert picture.mode == ("I;16" if max([*used, unlabelled]) > 255 else "L")
            said = dict(picture.text)
            named = {int(number): name for number, name in json.loads(said.pop("ripu:classes")).items()}
            first = {ids[0]: name for ids, name in zip(classes.ids, classes.names, strict=True)}
            assert said == {"ripu:values": "id", "ripu:unlabelled": str(unlabelled)}
            assert {number: named[number] for number in first} == first
            assert [name for number, name in named.items() if number not in first] == ["void"]
        path = folder / "index" / f"{each.image_id}.png"
        assert stored_numbers(path).tolist() == mask.tolist()
        with Image.open(path) as picture:
            assert (picture.mode, picture.text) == ("L", {"ripu:values": "index"})


def test_class_indices_are_no_labels(tmp_path: Path) -> None:
    classes = ClassMap(CLASSES, ids=((1,), (2,), (3,)), ignore=(0, 255))
    store = store_with(tmp_path / "store", classes, draw_round(0))
    save_tree(tmp_path, classes)
    store.export_png(tmp_path / "labels" / "train", "index")
    data = FolderDataset(str(tmp_path), "train", str(tmp_path / "classes.yaml"))
    with pytest.raises(UserError, match=r"c\.png: holds class indices, not the file ids .*--values id") as error:
        data.label(0)
    assert "\n" not in str(error.value)


def test_numbers_of_another_class_map_are_no_labels(tmp_path: Path) -> None:
    store = store_with(tmp_path / "store", ClassMap(CLASSES), draw_round(0))
    other = ClassMap(CLASSES, ids=((0,), (1,), (254,)))
    save_tree(tmp_path, other)
    store.export_png(tmp_path / "labels" / "train")
    data = FolderDataset(str(tmp_path), "train", str(tmp_path / "classes.yaml"))
    with pytest.raises(UserError, match="254 means unlabelled, but this is the id of sky; it was written with another"):
        data.label(0)


def test_a_class_without_a_file_id(tmp_path: Path) -> None:
    store = store_with(tmp_path / "store", ClassMap(CLASSES, ids=((0,), (), (2,))), draw_round(0))
    with pytest.raises(UserError, match="class 'car' has no file id"):
        store.export_png(tmp_path / "png")
    assert not (tmp_path / "png").exists()
    store.export_png(tmp_path / "png", "index")


@pytest.mark.parametrize("image", ["../x", "a/../../x", "/x", "a//x", "./x", "..", "a\0b"])
def test_export_png_stays_in_its_folder(tmp_path: Path, image: str) -> None:
    answers = draw_round(0)[0]
    images = {"fine": IMAGES["town/a"], image: IMAGES["town/a"]}
    with LabelStore.create_or_open(tmp_path / "store", classes=CLASSES, images=images) as store:
        both = [replace(answers, image_id=name) for name in images]
        store.commit(both, strategy="s", annotator="a", exclusion=1)
        with pytest.raises(UserError, match="outside"):
            store.export_png(tmp_path / "png")
    assert not (tmp_path / "png").exists()


def test_export_png_does_not_follow_links_out(tmp_path: Path) -> None:
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "town").symlink_to(tmp_path)
    with writer(tmp_path / "store") as store:
        commit(store, 0)
        with pytest.raises(UserError, match="'town/a' would be written outside"):
            store.export_png(tmp_path / "png")
    assert not list(tmp_path.rglob("*.png"))


def test_png_through_a_round(tmp_path: Path) -> None:
    with writer(tmp_path / "store") as store:
        store.commit(draw_round(4)[:1], strategy="s", annotator="a", exclusion=1)
        commit(store, 5)
    store.export_png(tmp_path / "png", through=1)
    assert [path.name for path in (tmp_path / "png").rglob("*.png")] == ["a.png"]
    mask, queried = store.mask("town/a", 1), store.query_round("town/a", 1)
    expected = np.where(queried == 0, 254, mask)
    np.testing.assert_array_equal(stored_numbers(tmp_path / "png" / "town" / "a.png"), expected)


NAMES: list[Callable[[str], str]] = [lambda image: image, lambda image: f"{image}.tar.jpg"]


@pytest.mark.parametrize("through", [None, 1, 2])
@pytest.mark.parametrize("name_of", NAMES)
def test_coco_decodes_to_the_masks(tmp_path: Path, through: int | None, name_of: Callable[[str], str]) -> None:
    with writer(tmp_path / "store") as store:
        store.commit(draw_round(4)[:2], strategy="s", annotator="a", exclusion=1)
        commit(store, 5)
        commit(store, 6)
    path = tmp_path / "deep" / "out.json"
    store.export_coco(path, through, {image: name_of(image) for image in IMAGES})
    content = json.loads(path.read_text())
    assert content["categories"] == [{"id": 1 + index, "name": name} for index, name in enumerate(CLASSES)]
    images = {image["file_name"]: image for image in content["images"]}
    assert sorted(images) == sorted(map(name_of, IMAGES if through != 1 else list(IMAGES)[:2]))
    assert [image["id"] for image in content["images"]] == list(range(1, len(images) + 1))
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    reader = COCO(str(path))
    for image_id in IMAGES if through != 1 else list(IMAGES)[:2]:
        image = images[name_of(image_id)]
        mask, found = store.mask(image_id, through), np.full(IMAGES[image_id], VOID, dtype=np.uint8)
        assert (image["height"], image["width"]) == IMAGES[image_id]
        for entry in reader.loadAnns(reader.getAnnIds(imgIds=[image["id"]])):
            where = decoder.decode(entry["segmentation"]).astype(bool)
            assert np.array_equal(reader.annToMask(entry), where)
            assert (found[where] == VOID).all()
            found[where] = CLASSES.index(reader.loadCats([entry["category_id"]])[0]["name"])
            rows, columns = np.nonzero(where)
            assert entry["area"] == len(rows) > 0
            assert entry["iscrowd"] == 0
            left, top, width, height = entry["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        np.testing.assert_array_equal(found, mask)


READ_BY_DATUMARO = """
import sys
import numpy as np
from datumaro.components.dataset import Dataset
data = Dataset.import_from(sys.argv[1], "coco_instances")
names = [category.name for category in data.categories()[next(iter(data.categories()))]]
for item in data:
    assert item.media.data.shape[:2] == item.annotations[0].image.shape, item.id
    for part in item.annotations:
        if hasattr(part, "image"):
            print(item.id, names[part.label], *np.flatnonzero(part.image).tolist())
"""


@pytest.mark.skipif("RIPU_DATUMARO" not in os.environ, reason="RIPU_DATUMARO names no Python that has datumaro")
def test_datumaro_reads_the_same(tmp_path: Path) -> None:
    with writer(tmp_path / "store") as store:
        commit(store, 5)
    for image, size in IMAGES.items():
        path = tmp_path / "coco" / "images" / "train" / f"{image}.v2.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(path)
    names = {image: f"{image}.v2.png" for image in IMAGES}
    store.export_coco(tmp_path / "coco" / "annotations" / "instances_train.json", file_names=names)
    command = [os.environ["RIPU_DATUMARO"], "-c", READ_BY_DATUMARO, str(tmp_path / "coco")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""})
    found = {image: np.full(size, VOID, dtype=np.uint8) for image, size in IMAGES.items()}
    for line in printed.stdout.splitlines():
        image, name, *pixels = line.split(" ")
        found[image.removesuffix(".v2")].reshape(-1)[np.array(pixels, dtype=np.int64)] = CLASSES.index(name)
    for image in IMAGES:
        np.testing.assert_array_equal(found[image], store.mask(image))


def test_coco_of_an_empty_store(tmp_path: Path) -> None:
    with writer(tmp_path / "store") as store:
        store.export_coco(tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert (content["images"], content["annotations"]) == ([], [])


def test_a_mask_that_is_read_with_another_class_map_is_refused(tmp_path: Path) -> None:
    ours = ClassMap(("road", "car"), ids=((0,), (1,)))
    mask = np.array([[0, 1, VOID]], dtype=np.uint8)
    write_labels(tmp_path, ["a"], lambda _: mask, lambda _: np.ones((1, 3), dtype=np.uint16), ours, "id")
    stored = read_label(tmp_path / "a.png")
    assert LabelDecoder(ours).decode(stored, "a.png").tolist() == [[0, 1, 255]]
    wider = ClassMap(("car", "bus", "road"), ids=((1,), (7,), (0,)))
    assert LabelDecoder(wider).decode(stored, "a.png").tolist() == [[2, 0, 255]]
    for other, words in (
        (ClassMap(("car", "road"), ids=((0,), (1,))), "says that 0 is road, but in class map it is car"),
        (ClassMap(("road", "crack"), ids=((0,), (255,)), ignore=()), "says that 255 is void, .* it is crack"),
    ):
        with pytest.raises(UserError, match=f"^a.png: {words}"):
            LabelDecoder(other).decode(stored, "a.png")
