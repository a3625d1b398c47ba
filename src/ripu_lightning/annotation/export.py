"""A round as a folder for people and other programs: what is asked as masks, as pictures and as a table."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFilter import MaxFilter
from tqdm import tqdm

from ripu_lightning.annotation.annotators import Query
from ripu_lightning.annotation.queries import write_queries
from ripu_lightning.data.classes import ClassMap
from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array
from ripu_lightning.files import explained, replacing, sync_folder
from ripu_lightning.labels.painting import box_pixels
from ripu_lightning.labels.png import write_masks

FRAME = (255, 0, 255)
"""Colour of the frame around what is asked."""

_NOTE = "the labels bought before are safe"
_README = """\
Round {number}: {regions} regions in {images} images wait for answers. ID stands for an image's id.

asked/ID.png      255 where a pixel is asked, 0 elsewhere
pictures/ID.jpg   the image, with a frame around what is asked (the frame itself is not asked)
queries.parquet   the same for programs, a row a region

To be put here, for every image of asked/:

answers/ID.png    one channel of 8 bits (or a palette), as large as the image. Every asked pixel holds a number
                  from the list below. Whatever stands at the other pixels is not read.

Or, beside this file, answers.zip with these PNGs and nothing else.

When all of them are there, give the command of the run again: it reads them and goes on.

numbers           class
{classes}
"""


def export_round(folder: Path, round_number: int, queries: Sequence[Query], dataset: SegmentationDataset) -> None:
    """Write the folder of a round, wholly or not at all; what an interrupted export left is replaced.

    Raises:
        UserError: the disk refused, or an image id that would leave the folder.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    with explained(folder, _NOTE):
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "answers").mkdir(parents=True)
    reading = Lock()  # encoding and the disk take the time, and no data set promises to be read by several threads

    def write(query: Query) -> None:
        with reading:
            image = dataset.image(query.index)
        _export_image(temporary, query, image)

    with ThreadPoolExecutor() as pool:
        written = pool.map(write, queries)
        for _ in tqdm(written, total=len(queries), desc=f"round {round_number}: asking", unit="image"):
            pass
    write_queries(temporary / "queries.parquet", queries)
    with explained(folder, _NOTE):
        text = _readme(round_number, queries, dataset.classes)
        (temporary / "README.txt").write_text(text, encoding="utf-8")
        os.rename(temporary, folder)
        sync_folder(folder.parent)


def asked_pixels(query: Query, width: int) -> npt.NDArray[np.int64]:
    """Flat positions of all pixels that are asked of an image ``width`` wide."""
    pixels = box_pixels(query.boxes, width)
    return pixels if query.inside is None else pixels[query.inside]


def _export_image(folder: Path, query: Query, image: UInt8Array) -> None:
    asked = np.zeros(image.shape[:2], dtype=np.uint8)
    asked.reshape(-1)[asked_pixels(query, image.shape[1])] = 255
    write_masks(folder / "asked", [query.image_id], lambda _: asked, None)
    path = folder / "pictures" / f"{query.image_id}.jpg"
    with explained(path, _NOTE):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, _NOTE) as file, explained(path, _NOTE):
        # A PNG of a photograph is six times as large; full colour resolution, or thin frames would fade.
        Image.fromarray(_framed(image, asked)).save(file, format="JPEG", quality=90, subsampling=0)


def _framed(image: UInt8Array, asked: UInt8Array) -> UInt8Array:
    wide = 2 * max(1, max(asked.shape) // 1000) + 1
    around = np.array(Image.fromarray(asked).filter(MaxFilter(wide))) > asked
    framed = image.copy()
    framed[around] = FRAME
    return framed


def _readme(round_number: int, queries: Sequence[Query], classes: ClassMap) -> str:
    rows = [*zip(classes.ids, classes.names, strict=True), (classes.ignore, "can not say")]
    lines = [f"{' '.join(map(str, ids)):<17} {name}" for ids, name in rows if ids]
    regions = sum(len(query.centres) for query in queries)
    return _README.format(number=round_number, regions=regions, images=len(queries), classes="\n".join(lines))
