"""What W&B is given after every round, read back from the file that its offline mode writes."""

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from tiny_run import CLASSES, SIZE, TinyRun, train_tiny_run

from ripu_lightning.training.history import RoundRecord, log_round
from ripu_lightning.training.loggers import BY_PIXELS, define_axes, log_picture
from wandb_records import rows, steps

NAMES = [f"active/{name}" for name in ("miou", "share", "pixels", *(f"iou/{name}" for name in CLASSES.names))]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    finish()


def finish():
    import wandb  # takes seconds, which only the worker that runs these tests spends

    wandb.finish()


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """The run of the other tests, which W&B logs too."""
    folder = tmp_path_factory.mktemp("tiny_run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        run = train_tiny_run(folder, new_logger(folder))
        finish()
    return run


def new_logger(folder):
    return WandbLogger(project="test", save_dir=folder, offline=True)


def test_a_run_holds_figures_and_pictures_over_the_round(tiny_run: TinyRun):
    folder = tiny_run.folder
    figures = [row for row in rows(folder) if "active/miou" in row]
    assert [(row["active/round"], row["trainer/global_step"]) for row in figures] == [(0, 2), (1, 4), (2, 6)]
    assert all(0 < row["active/miou"] < 1 for row in figures)
    assert all(row[BY_PIXELS] == row["active/miou"] == row["miou"] for row in figures)
    pictures = [row for row in rows(folder) if "pictures/target__1.filenames" in row]
    assert [row["active/round"] for row in pictures] == [0, 1, 2]
    keys = [*NAMES[:2], *NAMES[3:], "miou", "pictures/target__1", "scores/target__1", "masks/target__1"]
    assert {steps(folder)[name] for name in keys} == {"active/round"}
    assert steps(folder)[BY_PIXELS] == "active/pixels"
    for number, row in enumerate(pictures):
        (name,) = row["pictures/target__1.filenames"]
        (media,) = folder.rglob(name)
        saved = folder / f"pictures/round_{number}/target__1.png"
        assert np.array_equal(np.array(Image.open(media)), np.array(Image.open(saved).convert("RGB")))


def test_masks_lie_over_the_image(tiny_run: TinyRun):
    folder, data, store = tiny_run.folder, tiny_run.data, tiny_run.store
    found = [row for row in rows(folder) if "masks/target__1.all_masks" in row]
    assert [row["active/round"] for row in found] == [0, 1, 2]
    for number, row in enumerate(found):
        (name,), (masks,) = row["masks/target__1.filenames"], row["masks/target__1.all_masks"]
        (image,) = folder.rglob(name)
        assert np.array_equal(np.array(Image.open(image).convert("RGB")), data.target.image(1))
        (files,) = [folder.rglob("files")]
        (root,) = files
        pixels = {kind: np.array(Image.open(root / mask["path"])) for kind, mask in masks.items()}
        shown = (store.query_round("target/1") > 0) & (store.query_round("target/1") <= number + 1)
        truth = data.target.label(1)
        assert np.array_equal(pixels["truth"], truth)
        saved = Image.open(folder / f"pictures/round_{number}/target__1/prediction.png")
        assert np.array_equal(pixels["prediction"], np.array(saved))
        queried = np.where(shown, np.where(truth == 255, 254, truth), 255)
        assert pixels["queried"].shape == SIZE
        assert np.array_equal(pixels["queried"], queried)


def test_names_in_full_win_over_the_trainers_axis(tmp_path):
    logger = new_logger(tmp_path)
    record = RoundRecord(3, 70, 5, 45, 1, 0.01, 0.5, dict.fromkeys(CLASSES.names, 0.5))
    define_axes([logger], [*NAMES, "active/round"])
    log_round([logger], [record])
    # W&B fills in the axis that it knows for a name: so it says itself which one it took.
    for name in [*NAMES, "train/loss"]:
        logger.experiment.log({name: 0.25})
    finish()
    assert {name: steps(tmp_path)[name] for name in NAMES} == dict.fromkeys(NAMES, "active/round")
    assert steps(tmp_path)["active/round"] == ""
    alone = [row for row in rows(tmp_path) if 0.25 in row.values()]
    assert [row.get("active/round") for row in alone] == [3] * len(NAMES) + [None]
    assert alone[-1]["trainer/global_step"] == 70


def test_ranks_above_zero_log_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    define_axes([new_logger(tmp_path)], NAMES)
    log_picture([new_logger(tmp_path)], "p", np.full((4, 4, 3), 7, dtype=np.uint8), 0, 1)
    assert not list(tmp_path.rglob("*.wandb"))
