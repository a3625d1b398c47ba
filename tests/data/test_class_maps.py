"""Class maps: the shipped ones, the tables derived from them, and one line for every mistake."""

import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripu_lightning.class_map import ClassMap, _parse, load_class_map
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
    assert classes.own_colors
    assert not classes.doubts()
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
        (f"classes: [{ROAD}, {{name: car, id: 1}}]", "no key 'id' in a class map; did you mean 'ids'?"),
        (f"classes: [{ROAD}, {CAR}]\nnames: [a]", "no key 'names'"),
        (f"classes: [{ROAD}, {CAR}]\nno: [a]", "no key no in a class map"),
        ("classes: [road, car]\nclasses: [car, road]", "the key classes is given twice"),
        ("classes: [{name: road, name: car}, sky]", "the key name is given twice"),
        ("classes: [road, {name: }]", "a name is missing"),
        ("classes: [road, '  ']", "a name is empty"),
        ("classes: [road, car]\nsubsets: {'': [road]}", "a name is empty"),
        ("classes: [road, [car]]", "['car'] is not a name"),
        ("classes: [road, car]\nsubsets: {a: [1]}", "put it in quotes: '1'"),
        ("classes: [road, car]\nsubsets: {yes: [road]}", "put it in quotes: 'yes'"),
        ("classes: [road, car]\nsubsets: {2: [road]}", "put it in quotes: '2'"),
        ("classes: [road, car]\nsubsets:", "subsets has no keys"),
        ("classes: [road, {name: car, ids: [010]}]", "[010] is not a list of whole numbers, written as decimals"),
        ("classes: [road, {name: car, ids: [1:30, 0x10, 1_000]}]", "[1:30, 0x10, 1_000] is not a list of whole"),
        ("classes: [road, {name: car, color: [0x10, 1, 2]}]", "[0x10, 1, 2] is not a list of whole"),
        ("classes: [road, car]\nignore: ", "(nothing) is not a list"),
        ("classes: [road, car]\nignore_colors: [1, 2, 3]", "1 is not a list of whole"),
        (f"classes: [{ROAD}, {CAR}]\nignore_colors: [[4, 5, 6]]", "the color [4, 5, 6] is that of car and ignored"),
        ("classes: [{name: a, ids: [255]}, b]\nignore: [255]", "255 is ignored unless ignore is given: ignore: []"),
        ("from: no", "put it in quotes: 'no'"),
        ("from: cityscapes_19\nwithout: [off]", "put it in quotes: 'off'"),
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


WORDS = [
    "no",
    "Yes",
    "on",
    "OFF",
    "true",
    "null",
    "~",
    "1",
    "-3",
    "1.0",
    ".5",
    "1_0",
    "0x10",
    "010",
    "1:30",
    "2012-04-01",
]


@pytest.mark.parametrize("word", WORDS)
def test_names_that_yaml_reads_as_something_else(tmp_path: Path, word: str) -> None:
    for entry in (word, f"{{name: {word}}}"):
        with pytest.raises(UserError, match=re.escape(f"put it in quotes: '{word}'")):
            derive(tmp_path, f"classes: [road, {entry}]")
        assert derive(tmp_path, f"classes: [road, {entry.replace(word, repr(word))}]").names == ("road", word)


@given(st.text(st.sampled_from("yesnoffaltru~0123456789.xX_:-+eE"), min_size=1, max_size=6))
def test_a_name_is_the_text_that_was_typed_or_refused(text: str) -> None:
    try:
        found = _parse(f"classes:\n- road\n- name: {text}\n".encode(), "map")
    except UserError:
        return
    assert found.names == ("road", text)


def test_255_is_a_class_where_nothing_is_said_of_ignored_values(tmp_path: Path) -> None:
    text = "classes: [{name: background, ids: [0]}, {name: crack, ids: [255]}]\n"
    for classes in (derive(tmp_path, text), derive(tmp_path, text + "ignore: []")):
        assert [int(value) for value in classes.lookup()[[0, 1, 255]]] == [0, -1, 1]
        assert classes.ignore == ()
    assert derive(tmp_path, text + "ignore: [7]").lookup()[[7, 255]].tolist() == [255, 1]


def test_ids_of_16_bits() -> None:
    classes = ClassMap(("road", "car"), ids=((7, 26001), (0, 65535)), ignore=(255, 300))
    expected = np.full(65536, -1)
    expected[[7, 26001]], expected[[0, 65535]], expected[[255, 300]] = 0, 1, 255
    np.testing.assert_array_equal(classes.lookup(16), expected)
    np.testing.assert_array_equal(classes.lookup(), expected[:256])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("a, {name: b, color: [9, 9, 9]}, {name: c, color: [9, 9, 9]}", "'b', 'c' have one color, [9, 9, 9]"),
        ("Road, 'ro ad', car", "'Road', 'ro ad' differ only by blanks, case or Unicode form"),
        ("caf\u00e9, cafe\u0301, car", "differ only by"),
    ],
)
def test_what_is_probably_a_mistake_is_a_warning(tmp_path: Path, entries: str, words: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(f"classes: [{entries}]", encoding="utf-8")
    with pytest.warns(UserWarning, match=re.escape(words)) as caught:
        classes = load_class_map(str(path))
    assert [str(warning.message) for warning in caught] == classes.doubts()
    assert classes.doubts()[0].startswith(str(path))


def test_colours_that_somebody_chose(tmp_path: Path) -> None:
    assert derive(tmp_path, f"classes: [{ROAD}, {CAR}]").own_colors
    assert not derive(tmp_path, f"classes: [{ROAD}, car]").own_colors
    assert not ClassMap.from_names(["road", "car"]).own_colors
    derived = derive(tmp_path, "from: cityscapes_19\nwithout: [sky]\nignore_colors: [[0, 0, 0]]")
    assert derived.own_colors
    assert derived.ignore_colors == ((70, 130, 180), (0, 0, 0))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_map_as_plain_lists(name: str) -> None:
    classes = load_class_map(name)
    again = json.loads(json.dumps(classes.as_dict()))
    assert ClassMap.from_dict(again) == classes
    assert ClassMap.from_dict(ClassMap.from_names(["a", "b"]).as_dict()) == ClassMap.from_names(["a", "b"])
    with pytest.raises(UserError, match="'own_colors'"):
        ClassMap.from_dict({key: value for key, value in again.items() if key != "own_colors"})


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


def test_an_exchanged_color_is_a_difference_and_a_new_one_is_none() -> None:
    """Labels may be stored as colours."""
    names, red, green, blue = ("road", "car"), (255, 0, 0), (0, 255, 0), (0, 0, 255)
    first = ClassMap(names, (red, green))
    assert first.difference(ClassMap(names, (blue, green))) == ""
    assert first.difference(ClassMap(names, (green, blue))) == "the color [0, 255, 0] is car there, road here"
    assert "is road there, ignored here" in first.difference(ClassMap(names, (blue, green), ignore_colors=(red,)))
    assert ClassMap.from_names(names).difference(ClassMap(names, ((0, 128, 0), (128, 0, 0)))) == ""  # never read
