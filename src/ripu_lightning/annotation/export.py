"""A round as a folder for people and other programs: its queries as masks, as pictures and as a table."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image
from PIL.ImageFilter import MaxFilter
from tqdm import tqdm

from ripu_lightning.annotation.annotators import ImagesById, Query
from ripu_lightning.annotation.answer_reader import queried_pixels
from ripu_lightning.annotation.queries import write_queries
from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import UInt8Array
from ripu_lightning.files import explained, replacing, sync_folder
from ripu_lightning.labels.export import write_masks
from ripu_lightning.mask_values import is_wide, unlabelled_id

FRAME = (255, 0, 255)
"""Colour of the frame around the queried pixels."""

_NOTE = "the labels of earlier rounds are safe"
_README = """\
Round {number}: {regions} regions in {images} images wait for answers. ID is an image's id.

asked/ID.png      255 where a pixel is queried, 0 elsewhere
pictures/ID.jpg   the image, with a frame around the queried pixels (the frame itself is not queried)
answers/ID.png    to be painted: {unlabelled} everywhere, which means that nobody has painted yet
queries.parquet   the queries for programs, a row a region

Paint or replace answers/ID.png. It has the size of the image and one channel of {bits} bits, and every queried pixel
holds a number from the list below. The other pixels are not read. Queried pixels that still hold {unlabelled} are
waited for.

{colours}CVAT's export "Segmentation mask 1.1" is read unchanged, in answers/ or as answers.zip next to this file. Any
other zip of these PNGs may be answers.zip, too.

A file whose pixels are all 0 (or white) outside the queries may be an empty layer: queried pixels of that value are
waited for, too. Where that is their class, write the image's id into answers/painted.txt, one id a line.

When all answers are there, run the same command again: it reads them and continues.

{classes}
"""
_COLOURS = """\
The file may also have the colours below, exactly: RGB, 8 bits a channel. Black and transparent mean unpainted.
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
        _export_image(temporary, query, image, images.dataset.classes)

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


def _export_image(folder: Path, query: Query, image: UInt8Array, classes: ClassMap) -> None:
    queried, unlabelled = np.zeros(image.shape[:2], dtype=np.uint8), unlabelled_id(classes)
    queried.reshape(-1)[queried_pixels(query, image.shape[1])] = 255
    write_masks(folder / "asked", [query.image_id], lambda _: queried, "queries")
    template = np.full(queried.shape, unlabelled, dtype=np.uint16 if is_wide(classes) else np.uint8)
    write_masks(folder / "answers", [query.image_id], lambda _: template, "id", unlabelled)
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
    rows = [("numbers", "colour", "class")]
    for ids, color, name in zip(classes.ids, classes.colors, classes.names, strict=True):
        rows.append((" ".join(map(str, ids)), " ".join(map(str, color)), name))
    rows.append((" ".join(map(str, classes.ignore)), "", "cannot say"))
    shown = [
        f"{ids:<17} {f'{color:<15} ' if classes.own_colors else ''}{name}"
        for ids, color, name in rows
        if ids or (color and classes.own_colors)
    ]
    return _README.format(
        number=round_number,
        regions=sum(len(query.centres) for query in queries),
        images=len(queries),
        unlabelled=unlabelled_id(classes),
        bits=16 if is_wide(classes) else 8,
        colours=_COLOURS if classes.own_colors else "",
        classes="\n".join(shown),
    )
