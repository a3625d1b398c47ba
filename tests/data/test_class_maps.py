"""Class maps: the shipped ones, the tables derived from them, and one line for every mistake."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.data.classes import ClassMap, load_class_map
from ripu_lightning.errors import UserError

SHIPPED = sorted(
    entry.name.removesuffix(".yaml") for entry in (resources.files("ripu_lightning.data") / "class_maps").iterdir()
)
ROAD = "{name: road, color: [1, 2, 3]}"
CAR = "{name: car, color: [4, 5, 6]}"


def test_some_maps_are_shipped() -> None:
    assert {"roads", "streets"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_maps_load(name: str) -> None:
    classes = load_class_map(name)
    assert len(classes) >= 2
    assert len(set(classes.colors)) == len(classes)
    table = classes.lookup()
    for train_id, values in enumerate(classes.ids):
        assert [int(table[value]) for value in values] == [train_id] * len(values)


def test_unknown_name_is_answered_with_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean 'streets'"):
        load_class_map("streetz")
    with pytest.raises(UserError, match=r"known: .*roads"):
        load_class_map("zzz")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*gone\.yaml"):
        load_class_map(str(tmp_path / "gone.yaml"))


def test_a_full_file(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(
        "classes:\n- {name: road, color: [1, 2, 3], ids: [7, 9]}\n"
        "- {name: ночь, color: [4, 5, 6], ids: []}\nignore: [0, 255]\n",
        encoding="utf-8",
    )
    classes = load_class_map(str(path))
    assert classes == ClassMap(("road", "ночь"), ((1, 2, 3), (4, 5, 6)), ((7, 9), ()), (0, 255))
    path.write_text(f"classes: [{ROAD}, {CAR}]")
    assert load_class_map(str(path)) == ClassMap(("road", "car"), ((1, 2, 3), (4, 5, 6)), ((0,), (1,)), (255,))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not a class map"),
        ("classes: [", "line 1"),
        ("[1, 2]", "not a class map"),
        ("classes: 3", "not a class map"),
        ("classes: {road: [1, 2, 3]}", "not a class map"),
        ("names: [road, car]", "'classes'"),
        ("classes: []", "0 classes"),
        (f"classes: [{ROAD}]", "1 classes"),
        (f"classes: [{ROAD}, {{color: [1, 2, 3]}}]", "'name'"),
        (f"classes: [{ROAD}, {{name: car}}]", "'color'"),
        (f"classes: [{ROAD}, {ROAD}]", "names repeat"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2]}}]", "color [1, 2]"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 3, 4]}}]", "color [1, 2, 3, 4]"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 256]}}]", "0..255"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, -1]}}]", "0..255"),
        (f"classes: [{ROAD}, {{name: car, color: blue}}]", "'blue'"),
        (f"classes: [{ROAD}, {{name: car, color: '123'}}]", "'123'"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 3], ids: 4}}]", "4 is not a list"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 3], ids: '45'}}]", "'45' is not a list"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 3], ids: [4.5]}}]", "[4.5] is not a list of whole"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 3], ids: [256]}}]", "0..255"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 3], ids: [-1]}}]", "0..255"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 3], ids: [0]}}]", "[0] are given twice"),
        (f"classes: [{ROAD}, {CAR}]\nignore: [1]", "[1] are given twice"),
        (f"classes: [{ROAD}, {CAR}]\nignore: 255", "255 is not a list"),
        (f"classes: [{ROAD}, {CAR}]\nignore: [x]", "whole numbers"),
    ],
)
def test_mistakes_are_one_line_with_the_file(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_class_map(str(path))
    line = str(caught.value)
    assert str(path) in line
    assert word in line
    assert "\n" not in line


def test_a_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_bytes(b"\xff\xfe\x00classes")
    with pytest.raises(UserError, match="not a class map"):
        load_class_map(str(path))


def test_number_of_classes() -> None:
    names = tuple(f"c{i}" for i in range(255))
    colors = tuple((i, i, i) for i in range(255))
    assert len(ClassMap(names[:254], colors[:254])) == 254
    with pytest.raises(UserError, match="255 classes"):
        ClassMap(names, colors)
    with pytest.raises(UserError, match="differ in number"):
        ClassMap(("a", "b"), ((1, 2, 3),))


@given(st.lists(st.sampled_from([0, 1, 2, 9]), min_size=256, max_size=256), st.integers(0, 2**32 - 1))
def test_tables_against_plain_loops(owner: list[int], seed: int) -> None:
    """``owner`` gives each file value to class 0..2, or to nobody; the last two values are ignored."""
    ids = tuple(tuple(value for value in range(254) if owner[value] == train_id) for train_id in range(3))
    drawn = np.random.default_rng(seed).integers(0, 256, (3, 3)).tolist()
    colors = tuple((red, green, blue) for red, green, blue in drawn)
    classes = ClassMap(("a", "b", "c"), colors, ids, ignore=(254, 255))
    expected = [{0: 0, 1: 1, 2: 2, 9: -1}[owner[value]] for value in range(254)] + [255, 255]
    assert classes.lookup().tolist() == expected
    palette = classes.palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    assert [tuple(row) for row in palette[:3].tolist()] == list(colors)
    assert not palette[3:].any()
