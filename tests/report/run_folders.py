"""Run folders by the writers of a run, without the training: drawn answers, drawn figures, real files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny_run import CLASSES, SIZE, Blocks

from ripu_lightning.data import ActiveDataModule
from ripu_lightning.labels import Answers, LabelStore
from ripu_lightning.report.data_record import SetRecord, write_data_record
from ripu_lightning.report.ledger_counting import make_ledger
from ripu_lightning.report.result import make_result
from ripu_lightning.training.history import RoundRecord, write_history

ROUNDS = 2
PROTOCOL = {
    "classes": list(CLASSES.names),
    "subsets": {},
    "images": 2,
    "data": "ab" * 32,
    "input_size": list(SIZE),
    "inference": {"title": "plain"},
    "precision": "32-true",
}


def config_of(strategy: str, seed: int, **changes: Any) -> dict[str, Any]:
    """The config of a run, as far as reports look at it."""
    config: dict[str, Any] = {
        "name": "made",
        "seed": seed,
        "network": {"_target_": "ripu_lightning.networks.SmallNet", "width": 8},
        "strategy": {"_target_": f"ripu_lightning.acquisition.{strategy}", "radius": 1},
        "loss": {"negative": 1.0},
        "budget": {"ratio": 0.1, "rounds": ROUNDS},
        "data": {"target": {"root": f"/data/{seed}", "seed": seed}, "target_labels": "queried"},
        "schedule": {"steps": 6},
        "trainer": {"precision": "32-true"},
    }
    for key, value in changes.items():
        *groups, last = key.split("__")
        place = config
        for group in groups:
            place = place[group]
        place[last] = value
    return config


def made_run(
    folder: Path, strategy: str = "ripu", seed: int = 1, miou: float = 0.5, kind: str = "queried", **changes: Any
) -> Path:
    """A run folder whose curve rises from 0.2 to ``miou``; ``kind`` as that of a run.

    ``changes`` are those of the config, of the ``protocol``, and the digests of the ``data``.
    """
    config = config_of(strategy, seed, **{key: value for key, value in changes.items() if key != "data"})
    rounds = ROUNDS if kind in {"queried", "unfinished"} else 0
    done = rounds - (kind == "unfinished")
    target, images = Blocks("target", 5), dict.fromkeys(Blocks("target", 5).ids, SIZE)
    folder.mkdir(parents=True)
    with LabelStore.create_or_open(folder / "labels", classes=CLASSES.names, images=images) as store:
        for number in range(done):
            rng = np.random.default_rng([seed, number, *strategy.encode()])
            store.commit(_answers(target, rng, number), strategy=strategy, annotator="ground_truth", exclusion=0)
        if rounds or kind == "all":
            make_ledger(ActiveDataModule(Blocks("source", 2), target, None), store, "square").write(folder)
        total = len(target) * SIZE[0] * SIZE[1]
        records = [_record(stage, done, miou, store.rounds[:stage], total) for stage in range(done + 1)]
    write_history(folder / "rounds.csv", records)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    data = changes.get("data", {"source": {"a.png": "0a"}, "target": {"b.png": "0b"}})
    write_data_record({name: SetRecord(CLASSES, files, {}) for name, files in data.items()}, folder)
    amounts = config["budget"]["ratio"], config["budget"]["rounds"]
    budget = {"unit": "ratio", "amount": amounts[0], "per": "image", "rounds": rounds, "rounds_done": done}
    budget |= {"pixels": records[-1].pixels, "share": records[-1].share}
    if kind == "all":
        budget |= {"unit": "all", "amount": None, "rounds": 0, "pixels": None, "share": 1.0}
    if kind == "none":
        budget |= {"unit": None, "amount": None}
    figures = {"miou": miou, "pixel_accuracy": 0.9, "class_accuracy": 0.8}
    figures |= {f"iou/{name}": value for name, value in records[-1].iou.items()}
    purchase = {"strategy": strategy if rounds else None, "budget": budget}
    make_result(config, purchase, PROTOCOL | changes.get("protocol", {}), figures).write(folder)
    return folder


def add_pictures(folder: Path, images: Sequence[int] = (0, 1), seed: int = 0) -> None:
    """The pictures of a run: two images, two rounds and what the network made of them in the end."""
    target, rng = Blocks("target", 5), np.random.default_rng(seed)
    for index in images:
        name = target.ids[index].replace("/", "__")
        _save(folder / "pictures" / name / "image.png", target.image(index))
        _save(folder / "pictures" / name / "truth.png", target.label(index))
        for number in range(ROUNDS + 1):
            place = folder / "pictures" / f"round_{number}" / name
            _save(place / "prediction.png", rng.integers(0, 3, SIZE, dtype=np.uint8))
            if number < ROUNDS:
                for kind in ("score", "impurity", "uncertainty"):
                    _save(place / f"{kind}.png", rng.integers(0, 256, SIZE, dtype=np.uint8), maximum="0.5", minimum="0")


def _answers(target: Blocks, rng: np.random.Generator, number: int) -> list[Answers]:
    """Squares of three pixels in two images."""
    found = []
    for index in (0, 1 + number):
        places = rng.permutation(100)[:6]
        corners = np.stack([3 * (places // 10), 4 * (places % 10)], axis=1).astype(np.int32)
        boxes = np.concatenate([corners, np.full_like(corners, 3)], axis=1)
        boxes[:, 2:] = np.minimum(3, np.array(SIZE) - boxes[:, :2])
        label = target.label(index)
        values = np.concatenate([label[top : top + h, left : left + w].ravel() for top, left, h, w in boxes.tolist()])
        scores = np.sort(rng.random(6).astype(np.float32))[::-1].copy()
        found.append(Answers(target.ids[index], corners + 1, boxes, values, scores))
    return found


def _record(stage: int, last: int, miou: float, queried: Any, total: int) -> RoundRecord:
    value = miou if not last else 0.2 + (miou - 0.2) * stage / last
    figures = {"val/miou": value, **{f"val/iou/{name}": value * (1 + k) / 3 for k, name in enumerate(CLASSES.names)}}
    return RoundRecord.of(stage, 2 * stage, queried, total, figures)


def _save(path: Path, pixels: np.ndarray, **texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.fromarray(pixels).save(path, pnginfo=info)
