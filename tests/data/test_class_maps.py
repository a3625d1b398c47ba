"""Class maps: the shipped ones, the tables derived from them, and one line for every mistake."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripu_lightning.class_map import ClassMap, load_class_map
from ripu_lightning.errors import InvalidArgument, UserError

SHIPPED = sorted(
    entry.name.removesuffix(".yaml") for entry in (resources.files("ripu_lightning") / "class_maps").iterdir()
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
        (
            f"classes: [{ROAD}, {{name: car, colour: [1, 2, 3]}}]",
            "no key 'colour' in a class map; did you mean 'color'",
        ),
        ("classes: [road, no]", "put it in quotes: 'no'"),
        (f"classes: [{ROAD}, {ROAD}]", "names repeat"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2]}}]", "color [1, 2]"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 3, 4]}}]", "color [1, 2, 3, 4]"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, 256]}}]", "0..255"),
        (f"classes: [{ROAD}, {{name: car, color: [1, 2, -1]}}]", "0..255"),
        (f"classes: [{ROAD}, {{name: car, color: blue}}]", "'blue'"),
        (f"classes: [{ROAD}, {{name: car, color: '123'}}]", "'123'"),
        (f"classes: [{ROAD}, {{name: car, color: [4, 5, 6], ids: 4}}]", "4 is not a list"),
        (f"classes: [{ROAD}, {{name: car, color: [4, 5, 6], ids: '45'}}]", "'45' is not a list"),
        (f"classes: [{ROAD}, {{name: car, color: [4, 5, 6], ids: [4.5]}}]", "[4.5] is not a list of whole"),
        (f"classes: [{ROAD}, {{name: car, color: [4, 5, 6], ids: [65536]}}]", "0..65535"),
        (f"classes: [{ROAD}, {{name: car, color: [4, 5, 6], ids: [-1]}}]", "0..65535"),
        (f"classes: [{ROAD}, {{name: car, color: [4, 5, 6], ids: [0]}}]", "[0] are given twice"),
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


CITYSCAPES_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
SYNTHIA_IDS = [3, 4, 2, 21, 5, 7, 15, 9, 6, 1, 10, 17, 8, 19, 12, 11]
ORDER_OF_16 = ["road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"]
ORDER_OF_16 += ["sky", "person", "rider", "car", "bus", "motorcycle", "bicycle"]


@pytest.mark.parametrize(
    ("name", "stored", "absent", "ignored", "subsets"),
    [
        ("cityscapes_19", CITYSCAPES_IDS, [], range(35), ["16", "13"]),
        ("cityscapes_16", CITYSCAPES_IDS, [22, 27, 31], range(35), ["13"]),
        ("cityscapes_13", CITYSCAPES_IDS, [22, 27, 31, 12, 13, 17], range(35), []),
        ("cityscapes_19_train_ids", range(19), [], [255], ["16", "13"]),
        ("synthia_16", SYNTHIA_IDS, [], range(23), ["13"]),
        ("synthia_13", SYNTHIA_IDS, [21, 5, 7], range(23), []),
    ],
)
def test_protocols(
    name: str, stored: Sequence[int], absent: list[int], ignored: Sequence[int], subsets: list[str]
) -> None:
    classes = load_class_map(name)
    kept = [value for value in stored if value not in absent]
    expected = [kept.index(i) if i in kept else 255 if i in ignored else -1 for i in range(256)]
    assert classes.lookup().tolist() == expected
    assert list(classes.subsets) == subsets
    for key, subset in classes.subsets.items():
        assert subset == load_class_map(f"cityscapes_{key}").names


@pytest.mark.parametrize("number", [13, 16])
def test_synthia_and_cityscapes_name_the_same_classes(number: int) -> None:
    ours, theirs = load_class_map(f"synthia_{number}"), load_class_map(f"cityscapes_{number}")
    assert (ours.names, ours.colors, ours.subsets) == (theirs.names, theirs.colors, theirs.subsets)
    assert ours.ids != theirs.ids
    if number == 16:
        assert list(ours.names) == ORDER_OF_16


def test_train_ids_name_the_classes_of_cityscapes() -> None:
    ours, theirs = load_class_map("cityscapes_19_train_ids"), load_class_map("cityscapes_19")
    assert (ours.names, ours.colors, ours.subsets) == (theirs.names, theirs.colors, theirs.subsets)


def derive(folder: Path, text: str) -> ClassMap:
    path = folder / "map.yaml"
    path.write_text(text)
    return load_class_map(str(path))


@settings(max_examples=30)
@given(st.sets(st.sampled_from(load_class_map("cityscapes_19").names), max_size=17), st.sets(st.integers(35, 255)))
def test_derived_maps_against_plain_loops(
    tmp_path_factory: pytest.TempPathFactory, without: set[str], ignore: set[int]
) -> None:
    base = load_class_map("cityscapes_19")
    text = f"from: cityscapes_19\nwithout: {sorted(without)}\nignore: {sorted(ignore)}\nsubsets: {{}}\n"
    classes = derive(tmp_path_factory.mktemp("map"), text)
    kept = [name for name in base.names if name not in without]
    assert list(classes.names) == kept
    assert [classes.colors[kept.index(name)] for name in kept] == [base.colors[base.names.index(name)] for name in kept]
    for value, (before, after) in enumerate(zip(base.lookup().tolist(), classes.lookup().tolist(), strict=True)):
        name = base.names[before] if 0 <= before < 19 else None
        if name in kept:
            assert after == kept.index(str(name))
        else:
            assert after == (255 if name or before == 255 or value in ignore else -1)
    for key, subset in base.subsets.items():
        rest = tuple(name for name in subset if name in kept)
        assert classes.subsets.get(key, ()) == (() if set(rest) == set(kept) else rest)


def voc_colors(count: int) -> list[tuple[int, ...]]:
    """The published MATLAB loop (VOClabelcolormap), for numbers 1 and up."""
    colors = []
    for number in range(1, count + 1):
        rgb, rest = [0, 0, 0], number
        for j in range(8):
            for channel in range(3):
                rgb[channel] |= (rest >> channel & 1) << (7 - j)
            rest >>= 3
        colors.append(tuple(rgb))
    return colors


def test_colors_have_defaults(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(254)]
    assert ClassMap.from_names(names) == ClassMap(tuple(names))
    assert list(ClassMap.from_names(names).colors) == voc_colors(254)
    assert len(set(voc_colors(254)) | {(0, 0, 0)}) == 255
    mixed = derive(tmp_path, "classes: [road, {name: car, color: [128, 0, 0]}, {name: sky, ids: [7]}]")
    assert mixed.colors == ((0, 128, 0), (128, 0, 0), (128, 128, 0))
    assert (mixed.names, mixed.ids) == (("road", "car", "sky"), ((0,), (1,), (7,)))
    for wrong in ("road", ["road", 2]):
        with pytest.raises(InvalidArgument, match="ClassMap: names must be a list of class names"):
            ClassMap.from_names(wrong)


def test_subsets_of_ones_own(tmp_path: Path) -> None:
    text = f"classes: [{ROAD}, {CAR}, {{name: sky, color: [7, 8, 9]}}]\n"
    text += "subsets: {ground: [sky, road], '2': {without: [car]}}\n"
    assert derive(tmp_path, text).subsets == {"ground": ("sky", "road"), "2": ("road", "sky")}
    derived = derive(tmp_path, "from: synthia_16\nsubsets: {stuff: [road, sky]}\n")
    assert derived.subsets == {**load_class_map("synthia_16").subsets, "stuff": ("road", "sky")}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("from: cityscapes_20", "from: no class map 'cityscapes_20'; did you mean"),
        ("from: other.yaml", "from: no class map 'other.yaml'"),
        ("from: cityscapes_19\nwithout: [terain]", "without: no class 'terain'; did you mean 'terrain'"),
        ("from: cityscapes_19\nwithout: truck", "'truck' is not a list of class names"),
        ("from: cityscapes_19\nwithuot: [truck]", "no key 'withuot' in a class map; did you mean 'without'?"),
        (f"from: cityscapes_19\nclasses: [{ROAD}, {CAR}]", "no key 'classes'"),
        ("from: cityscapes_19\nignore: [7]", "[7] are given twice"),
        ("from: cityscapes_19\nignore: [70000]", "0..65535"),
        (f"classes: [{ROAD}, {CAR}]\nwithout: [car]", "no key 'without'"),
        (f"classes: [{ROAD}, {CAR}]\nsubsets: {{one: [cars]}}", "subset one: no class 'cars'; did you mean 'car'?"),
        (f"classes: [{ROAD}, {CAR}]\nsubsets: {{one: {{without: [raod]}}}}", "no class 'raod'; did you mean 'road'?"),
        (f"classes: [{ROAD}, {CAR}]\nsubsets: {{one: {{without: [road, car]}}}}", "subset one is empty"),
        (f"classes: [{ROAD}, {CAR}]\nsubsets: {{one: [car, car]}}", "repeats a class"),
        (f"classes: [{ROAD}, {CAR}]\nsubsets: {{one: {{with: [car]}}}}", "no key 'with' in a class map"),
        (f"classes: [{ROAD}, {CAR}]\nsubsets: [car]", "not a class map"),
    ],
)
def test_mistakes_in_derived_maps_and_subsets(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(UserError) as caught:
        derive(tmp_path, text)
    line = str(caught.value)
    assert word in line
    assert str(tmp_path / "map.yaml") in line
    assert "\n" not in line
