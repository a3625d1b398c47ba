"""Predictions on disk, written during a real test run and read back by another library's reader."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from ripu_lightning.class_map import ClassMap, load_class_map
from ripu_lightning.data.pools import EvalBatch
from ripu_lightning.errors import UserError
from ripu_lightning.evaluation.predictions import SavePredictions

ROADS = load_class_map("roads")
# Ids of their own, in no order; the third class has two.
OTHER = ClassMap(("a", "b", "c", "d"), ((1, 2, 3),) * 4, ids=((26,), (7,), (200, 3), (0,)))


class Echo(LightningModule):
    """Gives its batches' labels as predictions."""

    def test_step(self, batch, batch_idx):
        return {"predictions": [label.long() for label in batch.labels]}


def says_ids_of(picture, classes):
    names = {str(ids[0]): name for ids, name in zip(classes.ids, classes.names, strict=True)}
    said = {"ripu:values": "id", "ripu:classes": json.dumps({"255": "void", **names})}
    return picture.text == said


def run(folder, batches, form="palette", classes=ROADS):
    dataset = SimpleNamespace(classes=classes, ids=[image_id for batch in batches for image_id in batch.ids])
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[SavePredictions(folder, dataset, form)],
    )
    trainer.test(Echo(), DataLoader(batches, batch_size=None), verbose=False)


def batch_of(labels):
    sizes = [tuple(label.shape) for label in labels.values()]
    return EvalBatch(
        torch.ones(len(labels), 3, 4, 4), list(range(len(labels))), list(labels), sizes, [*labels.values()], []
    )


def random_labels(*ids, classes=10):
    generator = torch.Generator().manual_seed(3)
    sizes = {image_id: (5 + number, 9 - number) for number, image_id in enumerate(ids)}
    return {image_id: torch.randint(0, classes, size, generator=generator) for image_id, size in sizes.items()}


def test_predictions_are_palette_pngs_of_class_indices(tmp_path):
    labels = random_labels("one", "city/two", "city/part/three")
    batches = [
        batch_of({key: labels[key] for key in ("one", "city/two")}),
        batch_of({"city/part/three": labels["city/part/three"]}),
    ]
    run(tmp_path / "out", batches)
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {f"{image_id}.png" for image_id in labels}
    for image_id, label in labels.items():
        picture = Image.open(tmp_path / "out" / f"{image_id}.png")
        assert picture.mode == "P"
        assert says_ids_of(picture, ROADS)  # the class map's ids are its indices
        assert np.array_equal(np.array(picture), label.numpy())
        assert np.array_equal(np.array(picture.convert("RGB")), ROADS.palette()[label.numpy()])


@pytest.mark.parametrize("image_id", ["../outside", "/outside", "city/../../outside", "city//", ""])
def test_predictions_stay_in_their_folder(tmp_path, image_id):
    with pytest.raises(UserError, match="outside"):
        run(tmp_path / "out", [batch_of(random_labels(image_id))])
    assert not list(tmp_path.rglob("*.png"))


def test_predicted_indices_are_not_said_to_be_ids(tmp_path):
    run(tmp_path / "out", [batch_of(random_labels("one", classes=4))], classes=OTHER)
    with Image.open(tmp_path / "out" / "one.png") as picture:
        assert picture.text == {"ripu:values": "index"}


def test_label_ids_are_grey_files_in_one_folder(tmp_path):
    labels = random_labels("one", "city/two", "city/part/three_000000_000019", classes=4)
    run(tmp_path / "out", [batch_of(labels)], "label_ids", OTHER)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"one.png", "two.png", "three_000000_000019.png"}
    for image_id, label in labels.items():
        with Image.open(tmp_path / "out" / f"{image_id.split('/')[-1]}.png") as picture:
            assert picture.mode == "L"
            assert says_ids_of(picture, OTHER)
            assert picture.size == (label.shape[1], label.shape[0])
            ids = [[(26, 7, 200, 0)[value] for value in row] for row in label.tolist()]
            assert np.array(picture).tolist() == ids


@pytest.mark.parametrize(
    ("form", "ids", "classes", "words"),
    [
        ("label_ids", ["x/a", "b", "y/a"], OTHER, "'x/a' and 'y/a'"),
        ("label_ids", ["a"], ClassMap(("a", "b"), ((1, 2, 3),) * 2, ids=((1,), ())), "'b' has no label id"),
        (True, ["a"], OTHER, "SavePredictions: form must be 'palette' or 'label_ids', got True"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(tmp_path, form, ids, classes, words):
    with pytest.raises(UserError, match=words):
        SavePredictions(tmp_path / "out", SimpleNamespace(classes=classes, ids=ids), form)
    assert not (tmp_path / "out").exists()
