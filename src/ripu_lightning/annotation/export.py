"""A round as a folder for people and other programs: its queries as masks, as pictures and as a table."""

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

from ripu_lightning.annotation.annotators import ImagesById, Query
from ripu_lightning.annotation.queries import write_queries
from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import UInt8Array
from ripu_lightning.files import explained, replacing, sync_folder
from ripu_lightning.labels.export import write_masks
from ripu_lightning.labels.masks import box_pixels

FRAME = (255, 0, 255)
"""Colour of the frame around the queried pixels."""

_NOTE = "the labels of earlier rounds are safe"
_README = """\
Round {number}: {regions} regions in {images} images wait for answers. ID is an image's id.

asked/ID.png      255 where a pixel is queried, 0 elsewhere
pictures/ID.jpg   the image, with a frame around the queried pixels (the frame itself is not queried)
queries.parquet   the same for programs, a row a region

Put here, for every image of asked/:

answers/ID.png    one channel of 8 bits (or a palette), as large as the image. Every queried pixel holds a number
                  from the list below. The other pixels are not read.

Or put answers.zip next to this file, with these PNGs and nothing else.

When all of them are there, run the same command again: it reads them and continues.

numbers           class
{classes}
"""


def export_round(folder: Path, round_number: int, queries: Sequence[Query], images: ImagesById) -> None:
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
            image = images.image(query.image_id)
        _export_image(temporary, query, image)

    with ThreadPoolExecutor() as pool:
        written = pool.map(write, queries)
        for _ in tqdm(written, total=len(queries), desc=f"round {round_number}: export", unit="image"):
            pass
    sizes = {query.image_id: images.size(query.image_id) for query in queries}
    write_queries(temporary / "queries.parquet", queries, sizes)
    with explained(folder, _NOTE):
        text = _readme(round_number, queries, images.dataset.classes)
        (temporary / "README.txt").write_text(text, encoding="utf-8")
        os.rename(temporary, folder)
        sync_folder(folder.parent)


def queried_pixels(query: Query, width: int) -> npt.NDArray[np.int64]:
    """Flat positions of all queried pixels of an image ``width`` wide."""
    pixels = box_pixels(query.boxes, width)
    return pixels if query.inside is None else pixels[query.inside]


def _export_image(folder: Path, query: Query, image: UInt8Array) -> None:
    queried = np.zeros(image.shape[:2], dtype=np.uint8)
    queried.reshape(-1)[queried_pixels(query, image.shape[1])] = 255
    write_masks(folder / "asked", [query.image_id], lambda _: queried, None)
    wide = 2 * max(1, max(queried.shape) // 1000) + 1
    framed = image.copy()
    framed[np.array(Image.fromarray(queried).filter(MaxFilter(wide))) > queried] = FRAME
    path = folder / "pictures" / f"{query.image_id}.jpg"
    with explained(path, _NOTE):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, _NOTE) as file, explained(path, _NOTE):
        # A PNG of a photograph is six times as large; full colour resolution, or thin frames would fade.
        Image.fromarray(framed).save(file, format="JPEG", quality=90, subsampling=0)


def _readme(round_number: int, queries: Sequence[Query], classes: ClassMap) -> str:
    rows = [*zip(classes.ids, classes.names, strict=True), (classes.ignore, "cannot say")]
    lines = [f"{' '.join(map(str, ids)):<17} {name}" for ids, name in rows if ids]
    regions = sum(len(query.centres) for query in queries)
    return _README.format(number=round_number, regions=regions, images=len(queries), classes="\n".join(lines))
