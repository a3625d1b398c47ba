"""Published data sets, each in its own layout and encoding, through the config that is shipped for it."""

from collections.abc import Callable
from pathlib import Path

import hydra
import numpy as np
import pytest
from omegaconf import DictConfig

import trees
from ripu_lightning.cli.compose import conf_dir
from ripu_lightning.data import ActiveDataModule, FolderDataset
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.build import build
from ripu_lightning.experiment.config_keys import require_values

WRITERS: dict[str, Callable[[Path], dict[str, trees.Ids]]] = {
    "cityscapes": trees.write_cityscapes,
    "gtav": trees.write_gtav,
    "synthia": trees.write_synthia,
    "camvid": trees.write_camvid,
    "idd": trees.write_idd,
    "acdc": trees.write_acdc,
    "bdd100k": trees.write_bdd100k,
}
CITYSCAPES = dict(
    zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), range(19), strict=True)
)
SYNTHIA = dict(zip((3, 4, 2, 21, 5, 7, 15, 9, 6, 1, 10, 17, 8, 19, 12, 11), range(16), strict=True))
TO_TRAIN = {
    "cityscapes": CITYSCAPES,
    "gtav": CITYSCAPES,
    "synthia": SYNTHIA,
    "camvid": {i: i for i in range(11)},
    "idd": {i: i for i in range(26)},
    "acdc": CITYSCAPES,
    "bdd100k": {i: i for i in range(19)},
}
SPLITS = [(name, split) for name in WRITERS for split in ("train", "val")]


def config(name: str, *overrides: str) -> DictConfig:
    """``data=folder`` with the data set in the source's place."""
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return hydra.compose("train", overrides=["data=folder", f"dataset@data.source={name}", *overrides])


def open_dataset(name: str, root: Path, split: str, *overrides: str) -> FolderDataset:
    given = [] if name in {"gtav", "synthia"} else [f"data.source.split={split}"]
    dataset: FolderDataset = build(config(name, f"data.source.root={root}", *given, *overrides).data, "source")
    return dataset


def expected(name: str, ids: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: TO_TRAIN[name].get(int(value), 255))(ids)


def test_every_shipped_data_set_has_its_tree() -> None:
    shipped = {path.stem for path in (conf_dir() / "dataset").glob("*.yaml")}
    assert shipped == {*WRITERS, "folder"}


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_ids_images_and_labels(tmp_path: Path, name: str, split: str) -> None:
    drawn = WRITERS[name](tmp_path)
    drawn = drawn.get(split, drawn.get("all", {}))
    data = open_dataset(name, tmp_path, split)
    data.check()
    assert list(data.ids) == sorted(drawn)
    for index, image_id in enumerate(data.ids):
        label, image = data.label(index), data.image(index)
        np.testing.assert_array_equal(label, expected(name, drawn[image_id]))
        assert set(np.unique(label).tolist()) == {*range(len(data.classes)), 255}
        assert image.shape == (*drawn[image_id].shape, 3)
        for path in data.files(index):
            assert path is not None
            assert image_id.rsplit("/", 1)[-1] in path.name


@pytest.mark.parametrize("name", list(WRITERS))
def test_trees_can_be_learnt_from(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    data = open_dataset(name, tmp_path, "train")
    images = np.concatenate([data.image(i).reshape(-1, 3) for i in range(len(data))]).astype(float)
    labels = np.concatenate([data.label(i).reshape(-1) for i in range(len(data))])
    means = np.stack([images[labels == each].mean(0) for each in range(len(data.classes))])
    counted = np.flatnonzero(labels != 255)[::37]
    nearest = np.linalg.norm(images[counted, None] - means, axis=-1).argmin(-1)
    assert (nearest == labels[counted]).mean() > 0.6


@pytest.mark.parametrize("name", list(WRITERS))
def test_trees_are_drawn_alike_every_time(tmp_path: Path, name: str) -> None:
    contents = []
    for root in (tmp_path / "one", tmp_path / "two"):
        WRITERS[name](root)
        contents.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    assert len(contents[0]) > 4


def test_an_id_of_another_data_set_is_refused(tmp_path: Path) -> None:
    trees.write_gtav(tmp_path)
    data = open_dataset("gtav", tmp_path, "train", "data.source.classes=synthia_16")
    with pytest.raises(UserError, match="does not name: 23, 24, 25"):
        data.label(0)


def test_training_ids_read_as_label_ids_are_refused(tmp_path: Path) -> None:
    trees.write_bdd100k(tmp_path)
    with pytest.raises(UserError, match="does not name: 255"):
        open_dataset("bdd100k", tmp_path, "train", "data.source.classes=cityscapes_19").label(0)


def test_gtav_pairs_of_two_sizes(tmp_path: Path) -> None:
    drawn = trees.write_gtav(tmp_path, 5, mismatch=[1, 3])["all"]
    data = open_dataset("gtav", tmp_path, "train")
    with pytest.warns(UserWarning, match="2 of 5: 00002, 00004"):
        data.check()
    assert [data.label(i).shape for i in range(5)] == [trees.SIZE] * 5
    np.testing.assert_array_equal(data.label(0), expected("gtav", drawn["00001"]))
    with pytest.warns(UserWarning, match="left out"):
        assert open_dataset("gtav", tmp_path, "train", "data.source.mismatch=skip").ids == ["00001", "00003", "00005"]


def test_cityscapes_test_split_holds_no_classes(tmp_path: Path) -> None:
    trees.write_cityscapes(tmp_path)
    data = open_dataset("cityscapes", tmp_path, "test")
    data.check()
    assert {int(value) for i in range(len(data)) for value in np.unique(data.label(i))} == {255}


@pytest.mark.parametrize(
    ("name", "writer"),
    [
        ("cityscapes", lambda root: trees.write_cityscapes(root, labels=False)),
        ("acdc", trees.write_acdc),
        ("bdd100k", trees.write_bdd100k),
    ],
)
def test_a_split_without_labels(tmp_path: Path, name: str, writer: Callable[[Path], dict[str, trees.Ids]]) -> None:
    drawn = writer(tmp_path)["test"]
    with pytest.raises(UserError, match=r"no folder .*labels=None if there are none"):
        open_dataset(name, tmp_path, "test")
    data = open_dataset(name, tmp_path, "test", "data.source.labels=null")
    data.check()
    assert list(data.ids) == sorted(drawn)
    assert not data.has_labels


def test_one_condition_of_acdc(tmp_path: Path) -> None:
    drawn = trees.write_acdc(tmp_path, train=2)["train"]
    patterns = ["data.source.images='rgb_anon/fog/{split}/{id}_rgb_anon.png'"]
    patterns += ["data.source.labels='gt/fog/{split}/{id}_gt_labelIds.png'"]
    data = open_dataset("acdc", tmp_path, "train", *patterns)
    assert list(data.ids) == sorted(each.removeprefix("fog/") for each in drawn if each.startswith("fog/"))


def test_idd_in_the_classes_of_cityscapes(tmp_path: Path) -> None:
    drawn = trees.write_idd(tmp_path)["train"]
    labels = "data.source.labels='gtFine/{split}/{id}_gtFine_labelcsTrainIds.png'"
    data = open_dataset("idd", tmp_path, "train", "data.source.classes=cityscapes_19_train_ids", labels)
    data.check()
    idd = open_dataset("idd", tmp_path, "train")
    for index, image_id in enumerate(data.ids):
        # What both maps name alike is alike in both; animals are persons in level 3 only.
        ours, theirs = np.array([*data.classes.names, ""]), np.array([*idd.classes.names, ""])
        mine, other = ours[np.minimum(data.label(index), 19)], theirs[np.minimum(drawn[image_id], 26)]
        shared = np.isin(other, ours[:-1])
        assert (mine[shared] == other[shared]).all()
        assert shared.mean() > 0.5


@pytest.mark.parametrize(("source", "classes"), [("gtav", 19), ("synthia", 16)])
def test_published_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, classes: int) -> None:
    WRITERS[source](tmp_path / source)
    trees.write_cityscapes(tmp_path / "cityscapes", labels=True)
    monkeypatch.setenv(f"RIPU_{source.upper()}", str(tmp_path / source))
    monkeypatch.setenv("RIPU_CITYSCAPES", str(tmp_path / "cityscapes"))
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = hydra.compose("train", overrides=[f"data={source}_cityscapes"])
    require_values(composed)
    data: ActiveDataModule = build(composed, "data")
    assert (len(data.source), len(data.target), len(data.target_eval)) == (4, 4, 2)
    assert len(data.classes) == classes
    assert data.source.classes.names == data.target_eval.classes.names
    assert (data.batch_size, data.eval_batch_size, data.num_workers) == (2, 1, 4)
    assert (composed.data.source_size, composed.data.target_size) == ([720, 1280], [640, 1280])
    assert composed.data.augment == []
    assert set(data.target_eval.classes.subsets) == ({"16", "13"} if source == "gtav" else {"13"})


def test_another_target_keeps_its_own_classes_and_split() -> None:
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        chosen = ["dataset@data.target=bdd100k", "dataset@data.target_eval=bdd100k", "data.target.root=here"]
        composed = hydra.compose("train", overrides=["data=folder", *chosen])
    assert (composed.data.target.classes, composed.data.target.split) == ("cityscapes_19_train_ids", "train")
    assert composed.data.target_eval.split == "val"


def test_a_folder_that_no_variable_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WRITERS:
        monkeypatch.delenv(f"RIPU_{name.upper()}", raising=False)
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = hydra.compose("train", overrides=["data=gtav_cityscapes", "data.source.root=here"])
    with pytest.raises(UserError) as caught:
        require_values(composed)
    assert str(caught.value) == "data.target.root: set RIPU_CITYSCAPES, or add data.target.root=... to the command"
