"""Layouts: what a pattern finds, under which id, and one line where it finds nothing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.data.layout import Layout
from ripu_lightning.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("pattern", "split", "file", "image_id"),
    [
        ("images/{split}/{id}.*", "train", "images/train/a/b.JPEG", "a/b"),
        ("images/{split}/{id}.*", "new/train", "images/new/train/a.png", "a"),
        ("images/{split}/{id}.*", "[a-z]*", "images/[a-z]*/a.png", "a"),
        ("{split}annot/{id}.png", "val", "valannot/x.PNG", "x"),
        ("{id}.png", None, "deep/down/x.y.png", "deep/down/x.y"),
        ("left/{split}/{id}_left.png", "val", "left/val/bonn/bonn_1_left.png", "bonn/bonn_1"),
        ("rgb/*/{split}/{id}_rgb.png", "val", "rgb/fog/val/G1/f_1_rgb.png", "fog/G1/f_1"),
        ("*/{split}/*/{id}.png", "val", "fog/val/left/x/1.png", "fog/left/x/1"),
        ("*/{id}/image.png", None, "fog/a/b/image.png", "fog/a/b"),
    ],
)
def test_a_file_and_its_id(tmp_path: Path, pattern: str, split: str | None, file: str, image_id: str) -> None:
    root = tmp_path / "a [b] {id} *"
    touch(root, file, "images/other/c.png", "left/val/bonn/bonn_1_color.png", "rgb/fog/val_ref/G1/f_1_rgb.png", "x.txt")
    layout = Layout(str(root), split, pattern)
    assert layout.list_images()[image_id] == root / file
    assert layout._expected(pattern, image_id).with_suffix("") == (root / file).with_suffix("")


@given(
    st.sets(
        st.tuples(st.sampled_from(["fog", "rain"]), st.sampled_from(["", "a/", "a/b/"]), st.integers(0, 9)), min_size=1
    )
)
def test_exactly_the_files_that_fit(
    tmp_path_factory: pytest.TempPathFactory, wanted: set[tuple[str, str, int]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for condition, folder, number in wanted:
        place = f"gt/{condition}/val/{folder}{number}"
        touch(root, f"{place}_ids.png", f"{place}_color.png", f"{place}_ids.png.txt", f"{place}_ids_png")
    found = Layout(str(root), "val", "gt/*/{split}/{id}_ids.png").list_images()
    assert list(found) == sorted(f"{condition}/{folder}{number}" for condition, folder, number in wanted)
    assert all(path.is_file() and path.name.endswith("_ids.png") for path in found.values())


def test_orphans_are_told_one_by_one(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/fog/val/a/1.png", "rgb/fog/val/a/2.png", "gt/fog/val/a/2_ids.png", "gt/rain/val/3_ids.png")
    layout = Layout(str(tmp_path), "val", "rgb/*/{split}/{id}.*", "gt/*/{split}/{id}_ids.png")
    images, labels = layout.list_images(), layout.list_labels()
    assert images.keys() - labels.keys() == {"fog/a/1"}
    assert labels.keys() - images.keys() == {"rain/3"}
    first, second = layout.orphans(images, labels)
    assert first.startswith(f"image without label: {tmp_path / 'rgb/fog/val/a/1.png'}; there is no ")
    assert str(tmp_path / "gt/fog/val/a/1_ids.png") in first
    assert second.startswith(f"label without image: {tmp_path / 'gt/rain/val/3_ids.png'}; there is no ")
    assert str(tmp_path / "rgb/rain/val/3.*") in second


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("image", "label"), [(NFD, NFC), (NFC, NFD), (NFD, NFD)])
def test_names_pair_in_any_unicode_form(tmp_path: Path, image: str, label: str) -> None:
    touch(tmp_path, f"{image}/left/{image}_left.jpg", f"{label}/{label}.png")
    layout = Layout(str(tmp_path), NFC, "{split}/left/{id}_left.jpg", "{split}/{id}.png")
    images, labels = layout.list_images(), layout.list_labels()
    assert (list(images), list(labels)) == ([NFC], [NFC])
    assert images[NFC].is_file()
    assert labels[NFC].is_file()
    assert layout.orphans(images, labels) == []
    stars = Layout(str(tmp_path), None, "*/left/{id}_left.jpg", None)
    assert list(stars.list_images()) == [f"{NFC}/{NFC}"]


def test_the_pattern_itself_in_another_unicode_form(tmp_path: Path) -> None:
    touch(tmp_path, f"a_{NFD}.png")
    assert list(Layout(str(tmp_path), None, "{id}_" + f"{NFC}.png", None).list_images()) == ["a"]


def test_two_files_of_one_name_but_for_its_unicode_form_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, f"{NFC}.png", f"{NFD}.png")
    with pytest.raises(UserError, match="the same name but for the suffix or the Unicode form; keep one"):
        Layout(str(tmp_path), None, "{id}.png", None).list_images()


def test_files_that_systems_add_are_no_data(tmp_path: Path) -> None:
    touch(tmp_path, *(f"fog/{name}" for name in ("1.png", "._1.png", ".DS_Store", "Thumbs.db", "desktop.ini")))
    touch(tmp_path, "__MACOSX/1.png", "fog/@eaDir/1.png", "fog/.ipynb_checkpoints/1.png", ".trash/1.png")
    for pattern in ("{id}.*", "*/{id}.*"):
        layout = Layout(str(tmp_path), None, pattern, None)
        found = layout.list_images()
        assert list(found) == ["fog/1"]
        assert layout.left_out(found, layout.list_labels()) == []


def test_what_is_left_out_because_of_its_suffix_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.JPG", "3.png", "4.tiff", "5.TIFF", "6.txt", "6.json", "7.heic")
    layout = Layout(str(tmp_path), None, "{id}.jpg", None)
    images = layout.list_images()
    assert list(images) == ["1", "2"]
    (line,) = layout.left_out(images, layout.list_labels())
    assert "4 files with the suffix .png (1), .tiff (1), .TIFF (1), .heic (1) left out, because {id}.jpg" in line
    assert str(tmp_path / "3.png") in line
    both = Layout(str(tmp_path), None, "{id}.*", None)
    assert "1 file with the suffix .heic (1) left out" in both.left_out(both.list_images(), both.list_labels())[0]
    with pytest.raises(UserError, match=r"no images like \{id\}\.bmp .* Found: 6 files with the suffix"):
        Layout(str(tmp_path), None, "{id}.bmp", None).list_images()


def test_labels_next_to_images_are_not_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "1.png", "2.jpg", "2.png", "3.tif")
    layout = Layout(str(tmp_path), None, "{id}.jpg", "{id}.png")
    (line,) = layout.left_out(layout.list_images(), layout.list_labels())
    assert "1 file with the suffix .tif (1) left out" in line


@pytest.mark.parametrize(
    ("image", "label", "near"),
    [
        ("im1.jpg", "im1.jpg.png", "im1.jpg.png"),
        ("im1.JPG", "im1.JPG.png", "im1.JPG.png"),
        ("im1.jpg.png", "im1.png", "im1.png"),
        ("im1.jpg", "im1.tif", "im1.tif"),
    ],
)
def test_a_doubled_or_another_suffix_is_named_with_the_fix(tmp_path: Path, image: str, label: str, near: str) -> None:
    touch(tmp_path, f"images/{image}", f"labels/{label}", "images/x.png", "labels/x.png")
    layout = Layout(str(tmp_path), None, "images/{id}.*", "labels/{id}.png")
    first = layout.orphans(layout.list_images(), layout.list_labels())[0]
    assert first.startswith(f"image without label: {tmp_path / 'images' / image}; ")
    assert f", but {tmp_path / 'labels' / near}; rename one of the two or change the pattern" in first


def test_a_pattern_for_doubled_suffixes(tmp_path: Path) -> None:
    touch(tmp_path, "images/im1.jpg", "labels/im1.jpg.png")
    layout = Layout(str(tmp_path), None, "images/{id}.jpg", "labels/{id}.jpg.png")
    assert layout.orphans(layout.list_images(), layout.list_labels()) == []


def test_without_labels_nothing_is_listed_or_paired(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    layout = Layout(str(tmp_path), None, "{id}.png", None)
    assert layout.list_labels() == {}
    assert layout.orphans(layout.list_images(), layout.list_labels()) == []


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "images",
            "{id}",
            "images/{id}/{id}.png",
            "images/{name}/{id}.png",
            "images/{id}.png/{split}",
            "/images/{id}.png",
        ),
        *(
            "../{id}.png",
            "images//{id}.png",
            "a*/{id}.png",
            "images/*_{id}.png",
            "{id}/*/x.png",
            "{id}_{split}.png",
            "",
        ),
    ],
)
@pytest.mark.parametrize("key", ["images", "labels"])
def test_patterns_that_can_not_be_read(key: str, pattern: str) -> None:
    with pytest.raises(UserError, match=rf"^FolderDataset: {key} is .*; expected a path below the root"):
        Layout("root", "val", **{"images": "{split}/{id}.png", key: pattern})


@pytest.mark.parametrize(("pattern", "split"), [("{split}/{id}.png", None), ("all/{id}.png", "val")])
def test_a_split_that_the_pattern_does_not_ask_for(pattern: str, split: str | None) -> None:
    with pytest.raises(UserError, match=r"FolderDataset: split is (None|'val'), which does not fit images"):
        Layout("root", split, pattern)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("rgb/*/{split}/{id}.png", ["no folder", "{root}/rgb/*/val:", "wrong root or split", "rgb/*/{split}/{id}.png"]),
        ("left/{split}/{id}_left.png", ["no images like {id}_left.png", "{root}/left/val:", "wrong root or split"]),
    ],
)
def test_nothing_found(tmp_path: Path, pattern: str, words: list[str]) -> None:
    touch(tmp_path, "rgb/fog/train/1.png", "left/val/1_right.png")
    with pytest.raises(UserError) as caught:
        Layout(str(tmp_path), "val", pattern).list_images()
    for word in words:
        assert word.replace("{root}", str(tmp_path)) in str(caught.value)


def test_a_folder_that_can_not_be_listed_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "images/a/1.png", "images/b/2.png")
    scandir = __import__("os").scandir

    def refuse(path: str) -> object:  # permissions do not stop the super-user, who runs many test machines
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match=r"images/a: cannot be listed \(Permission denied\)"):
        Layout(str(tmp_path), None, "images/{id}.png").list_images()
