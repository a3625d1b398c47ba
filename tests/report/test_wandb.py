"""What a Weights & Biases run holds, read from the file that its offline mode writes."""

import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import wandb
from PIL import Image
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from tiny_run import CLASSES, tiny_run
from wandb.proto.wandb_internal_pb2 import Record

from ripu_lightning.report.pictures import RoundPictures
from ripu_lightning.training.history import RoundRecord, log_round
from ripu_lightning.training.loggers import define_round_axis, log_picture

NAMES = [f"active/{name}" for name in ("miou", "share", "pixels", *(f"iou/{name}" for name in CLASSES.names))]


def records(folder: Path) -> list[Record]:
    """The records of the one run below ``folder``, once W&B's own process has written the last of them."""
    (path,) = folder.rglob("*.wandb")
    for _ in range(100):
        found = parsed(path.read_bytes())
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end: {[record.WhichOneof('record_type') for record in found]}")


def parsed(content: bytes) -> list[Record]:
    """The complete records of LevelDB's log format: blocks of 32 KiB, here after 7 bytes that belong to the first."""
    position, parts, found = 7, b"", []
    while position + 7 <= len(content):
        left = 2**15 - position % 2**15
        if left < 7:  # no room for a header: padding
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        if position + 7 + length > len(content):
            break
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in {1, 4}:  # a whole record, or the last part of one
            found.append(Record.FromString(parts))
            parts = b""
    return found


def rows(folder):
    """The logged rows, in order."""
    history = [record.history for record in records(folder) if record.HasField("history")]
    return [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in entry.item} for entry in history
    ]


def steps(folder):
    """Metric by full name -> its axis."""
    metrics = [record.metric for record in records(folder) if record.HasField("metric")]
    return {metric.name: metric.step_metric for metric in metrics if metric.name}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.finish()


def new_logger(folder):
    return WandbLogger(project="test", save_dir=folder, offline=True)


def test_a_run_holds_figures_and_pictures_over_the_round(tmp_path):
    logger = new_logger(tmp_path)
    tiny_run(tmp_path, [RoundPictures(tmp_path / "pictures", count=1)], [logger])
    wandb.finish()
    figures = [row for row in rows(tmp_path) if "active/miou" in row]
    assert [(row["active/round"], row["trainer/global_step"]) for row in figures] == [(0, 2), (1, 4), (2, 6)]
    assert all(0 < row["active/miou"] < 1 for row in figures)
    pictures = [row for row in rows(tmp_path) if "pictures/target__2.filenames" in row]
    assert [row["active/round"] for row in pictures] == [0, 1, 2]
    assert {steps(tmp_path)[name] for name in [*NAMES, "pictures/target__2"]} == {"active/round"}
    for number, row in enumerate(pictures):
        (name,) = row["pictures/target__2.filenames"]
        (media,) = tmp_path.rglob(name)
        saved = tmp_path / f"pictures/round_{number}/target__2.png"
        assert np.array_equal(np.array(Image.open(media)), np.array(Image.open(saved)))


def test_names_in_full_win_over_the_trainers_axis(tmp_path):
    logger = new_logger(tmp_path)
    record = RoundRecord(3, 70, 5, 45, 1, 0.01, 0.5, dict.fromkeys(CLASSES.names, 0.5))
    define_round_axis([logger], [*NAMES, "active/round"])
    log_round([logger], record)
    # W&B fills in the axis that it knows for a name: so it says itself which one it took.
    for name in [*NAMES, "train/loss"]:
        logger.experiment.log({name: 0.25})
    wandb.finish()
    assert {name: steps(tmp_path)[name] for name in NAMES} == dict.fromkeys(NAMES, "active/round")
    assert steps(tmp_path)["active/round"] == ""
    alone = [row for row in rows(tmp_path) if 0.25 in row.values()]
    assert [row.get("active/round") for row in alone] == [3] * len(NAMES) + [None]
    assert alone[-1]["trainer/global_step"] == 70


def test_ranks_above_zero_log_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    Image.fromarray(np.full((4, 4, 3), 7, dtype=np.uint8)).save(tmp_path / "p.png")
    define_round_axis([new_logger(tmp_path)], NAMES)
    log_picture([new_logger(tmp_path)], "p", tmp_path / "p.png", 0, 1)
    assert not list(tmp_path.rglob("*.wandb"))
