"""Size and speed of the label store at full scale: 2,975 images of 2048 x 1024, 2.2% queried in 3 x 3 regions.

A store holds what a real run would: regions on the boundaries between the classes that a network predicts,
its picks in descending RIPU score, and the true labels of a slightly different map. Answers of a few dozen
drawn scenes are repeated in turn, with more scenes than fit one row group, the unit of compression: no scene
helps to compress its own repetition.

Run ``python benchmarks/store_size.py`` for an estimate, ``--images 2975`` for the whole.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from ripu_lightning.labels import VOID, Answers, LabelStore

HEIGHT, WIDTH, CLASSES, ROUNDS = 1024, 2048, 19, 5
PICKS = 1026  # ceil(2048 * 1024 * 0.022 / 5 / 9)
FULL = 2975 * ROUNDS * PICKS
LIMIT = 150e6

FloatArray = npt.NDArray[np.float32]


def noise(rng: np.random.Generator, cell: int) -> FloatArray:
    """Smooth noise ``(HEIGHT, WIDTH)`` float32 whose blobs measure about ``cell`` pixels."""
    coarse = rng.standard_normal((HEIGHT // cell + 2, WIDTH // cell + 2), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def window(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sums ``(H, W)`` over 3 x 3 windows, edges repeated."""
    padded = np.pad(image, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    sums: npt.NDArray[Any] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return sums


def draw_scene(rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """True labels ``(H, W)`` uint8 and the RIPU scores ``(H, W)`` float32 of an imperfect prediction."""
    names = rng.choice(CLASSES, size=8, replace=False)
    truth = np.stack([6 * noise(rng, 256) + 2 * noise(rng, 64) + noise(rng, 24) for _ in names])
    logits = truth + np.stack([0.4 * noise(rng, 32) + 0.3 * noise(rng, 8) for _ in names])
    labels = names[truth.argmax(axis=0)].astype(np.uint8)
    labels[noise(rng, 256) > 1.6] = VOID
    shifted = logits - logits.max(axis=0)
    odds = np.exp(shifted)
    total = odds.sum(axis=0)
    entropy = np.log(total) - (odds * shifted).sum(axis=0) / total
    prediction = logits.argmax(axis=0)
    share = np.arange(10, dtype=np.float32) / 9
    term = -share * np.log(np.maximum(share, 1e-6))
    impurity = sum(term[window((prediction == k).astype(np.uint8))] for k in range(len(names)))
    scores = impurity * window(entropy) / 9 / np.log(CLASSES) ** 2
    return labels, scores.astype(np.float32)


def pick(scores: FloatArray, available: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """``(PICKS, 2)`` centres, greedily from the highest score; ``available`` loses the squares of radius 2."""
    flat = np.where(available, scores, -1).ravel()
    best = np.argpartition(flat, -60 * PICKS)[-60 * PICKS :]
    centres = []
    for index in best[np.argsort(-flat[best], kind="stable")].tolist():
        row, column = divmod(index, WIDTH)
        if available[row, column]:
            centres.append((row, column))
            available[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = False
            if len(centres) == PICKS:
                break
    return np.array(centres, dtype=np.int32)


def answer(labels: npt.NDArray[np.uint8], scores: FloatArray, centres: npt.NDArray[np.int32]) -> Answers:
    """True answers to the 3 x 3 regions around ``centres``."""
    first = np.maximum(centres - 1, 0)
    last = np.minimum(centres + 1, np.array([HEIGHT - 1, WIDTH - 1], dtype=np.int32))
    patches = [
        labels[top : bottom + 1, left : right + 1].ravel()
        for (top, left), (bottom, right) in zip(first.tolist(), last.tolist(), strict=True)
    ]
    boxes = np.concatenate([first, last - first + 1], axis=1)
    return Answers("", centres, boxes, np.concatenate(patches), scores[centres[:, 0], centres[:, 1]])


def draw_rounds(seed: int) -> list[Answers]:
    """The answers of one scene, a round each; the network, and so its scores, change between rounds."""
    rng = np.random.default_rng([2022, seed])
    labels, scores = draw_scene(rng)
    available = np.ones((HEIGHT, WIDTH), dtype=np.bool_)
    rounds = []
    for _ in range(ROUNDS):
        now = scores * np.exp(0.15 * noise(rng, 128))
        rounds.append(answer(labels, now, pick(now, available)))
    return rounds


def build(folder: Path, images: list[str], scenes: list[list[Answers]]) -> tuple[LabelStore, list[float]]:
    """A store with all rounds about all images, and the seconds each commit took."""
    store = LabelStore.create_or_open(
        folder, classes=[f"class {k}" for k in range(CLASSES)], images=dict.fromkeys(images, (HEIGHT, WIDTH))
    )
    seconds = []
    for number in range(ROUNDS):

        def stream(number: int = number) -> Iterator[Answers]:
            for i, image in enumerate(tqdm(images, desc=f"round {number + 1}", unit="image")):
                yield replace(scenes[i % len(scenes)][number], image_id=image)

        start = time.perf_counter()
        store.commit(stream(), strategy="ripu", annotator="truth", exclusion=2)
        seconds.append(time.perf_counter() - start)
    return store, seconds


def report(store: LabelStore, seconds: list[float], images: list[str]) -> None:
    """Print sizes and times."""
    size = sum(entry.stat().st_size for entry in os.scandir(store.folder))
    each = size / store.queries
    verdict = "under" if each * FULL < LIMIT else "OVER"
    print(f"{store.queries:,} queries, {size / 1e6:.1f} MB, {each:.2f} bytes a query")
    print(f"at {FULL:,} queries: {each * FULL / 1e6:.1f} MB, {verdict} {LIMIT / 1e6:.0f} MB")
    print(f"commit: {max(seconds):.2f} s a round at most, {1e3 * max(seconds) / len(images):.2f} ms an image")
    sample = images[:: max(1, len(images) // 50)]
    for read in (store.mask, store.available, store.query_round):
        start = time.perf_counter()
        for image in sample:
            read(image)
        print(f"{read.__name__}: {1e3 * (time.perf_counter() - start) / len(sample):.1f} ms an image")
    start = time.perf_counter()
    LabelStore.open(store.folder)
    print(f"open and verify: {time.perf_counter() - start:.2f} s")


def main() -> None:
    """Build a store in a temporary folder and report."""
    parser = argparse.ArgumentParser(description="Size and speed of the label store")
    parser.add_argument("--images", type=int, default=100, help="images to answer about (2975 = full size)")
    parser.add_argument("--scenes", type=int, default=24, help="different scenes to draw, more than 16")
    arguments = parser.parse_args()
    count = min(arguments.scenes, arguments.images)
    scenes = [draw_rounds(seed) for seed in tqdm(range(count), desc="scenes", unit="scene")]
    images = [f"city_{i % 18:02d}/frame_{i:06d}" for i in range(arguments.images)]
    with tempfile.TemporaryDirectory() as folder:
        store, seconds = build(Path(folder), images, scenes)
        with store:
            report(store, seconds, images)


if __name__ == "__main__":
    main()
