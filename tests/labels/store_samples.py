"""Small answers, stores and a slow reference for the tests of the label store."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ripu_lightning.labels import NOT_QUERIED, VOID, Answers, LabelStore

CLASSES = ("road", "car", "sky")
IMAGES = {"town/a": (9, 14), "town/b": (7, 5), "c": (12, 12)}


def draw_answers(rng: np.random.Generator, image: str, size: tuple[int, int], count: int) -> Answers:
    """``count`` queries with boxes, centres and answers anywhere in an image of ``size``."""
    first = np.stack([rng.integers(0, side, count) for side in size], axis=1)
    sides = np.stack([rng.integers(1, size[k] - first[:, k] + 1) for k in range(2)], axis=1)
    boxes = np.concatenate([first, np.minimum(sides, 4)], axis=1).astype(np.int32)
    centres = np.stack([rng.integers(0, side, count) for side in size], axis=1).astype(np.int32)
    total = int((boxes[:, 2] * boxes[:, 3]).sum())
    values = rng.choice(np.array([0, 1, 2, VOID, NOT_QUERIED], dtype=np.uint8), total)
    return Answers(image, centres, boxes, values, np.sort(rng.random(count, dtype=np.float32))[::-1].copy())


def draw_round(seed: int, count: int = 5) -> list[Answers]:
    """Answers about every image, drawn from ``seed``."""
    rng = np.random.default_rng(seed)
    return [draw_answers(rng, image, size, count) for image, size in IMAGES.items()]


def writer(folder: Path) -> LabelStore:
    """The store of the sample images, open for writing."""
    return LabelStore.create_or_open(folder, classes=CLASSES, images=IMAGES)


def commit(store: LabelStore, seed: int, exclusion: int = 2) -> list[Answers]:
    """Commit :func:`draw_round` and return it."""
    answers = draw_round(seed)
    store.commit(iter(answers), strategy=f"s{seed}", annotator="truth", exclusion=exclusion)
    return answers


def slow_images(
    size: tuple[int, int], rounds: list[tuple[int, Answers]]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], npt.NDArray[np.uint16]]:
    """Mask, available pixels and rounds of the queries, pixel by pixel, of ``(exclusion, answers)`` pairs in order."""
    height, width = size
    mask, queried = np.full(size, VOID, np.uint8), np.zeros(size, np.uint16)
    available = np.ones(size, np.bool_)
    for number, (exclusion, answers) in enumerate(rounds, start=1):
        values = iter(answers.values.tolist())
        for top, left, box_height, box_width in answers.boxes.tolist():
            for row in range(top, top + box_height):
                for column in range(left, left + box_width):
                    value = next(values)
                    if value != NOT_QUERIED:
                        mask[row, column], queried[row, column] = value, number
                        available[row, column] = False
        for centre_row, centre_column in answers.centres.tolist():
            for row in range(height):
                for column in range(width):
                    if max(abs(row - centre_row), abs(column - centre_column)) <= exclusion:
                        available[row, column] = False
    return mask, available, queried


def assert_holds(store: LabelStore, rounds: list[list[Answers]], exclusion: int = 2) -> None:
    """The store holds just these rounds, each about every sample image."""
    assert [entry.number for entry in store.rounds] == list(range(1, len(rounds) + 1))
    for index, (image, size) in enumerate(IMAGES.items()):
        mask, available, queried = slow_images(size, [(exclusion, answers[index]) for answers in rounds])
        np.testing.assert_array_equal(store.mask(image), mask)
        np.testing.assert_array_equal(store.available(image), available)
        np.testing.assert_array_equal(store.query_round(image), queried)


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's content and its SHA-256 with it, as somebody who knows the format could."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content))


def replace_round(folder: Path, content: bytes, number: int = 1, **changes: object) -> None:
    """Another content for the file of a store's ``number``-th committed round (the head), believed by the manifest."""
    digest = hashlib.sha256(content).hexdigest()

    def change(manifest: dict[str, Any]) -> None:
        entry = manifest["rounds"][number - 1]
        (folder / entry["file"]).write_bytes(content)
        entry.update(sha256=digest, **changes)
        manifest["head"] = digest

    edit_manifest(folder, change)


def round_files(folder: Path) -> dict[str, bytes]:
    """Name and content of every round's file."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("round_*.parquet"))}
