"""Queries as a Parquet file, a row a region, and bit for bit back: what was asked outlives the process that asked.

Columns: ``image`` and ``index``, its position in the data set; ``region``, counted from 1 in each image; ``row`` and
``column`` of the centre; the box; ``inside``, a byte a pixel of the box that tells whether it is asked, null where all
of it is; and ``score``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ripu_lightning.annotation.annotators import Query
from ripu_lightning.files import explained, replacing, require_plain_file
from ripu_lightning.labels.answers import Int32Array, box_sizes
from ripu_lightning.labels.footer import Footer, read_footer
from ripu_lightning.labels.groups import require_boxes, require_size
from ripu_lightning.labels.parquet import PAYLOAD, bytes_of, numbers_of, read_columns, readable, runs_of

_NUMBERS = ("index", "region", "row", "column", "box_top", "box_left", "box_height", "box_width")
_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        *((name, pa.int32()) for name in _NUMBERS),
        ("inside", pa.binary()),
        ("score", pa.float32()),
    ]
)
_ROWS = 2**17
_BYTES = 8 << 20
"""A row group ends with the image that reaches one of the two."""


def to_table(queries: Sequence[Query]) -> pa.Table:
    """The columns; an image without regions leaves no row."""
    tables = [_image_table(query) for query in queries if len(query.centres)]
    return pa.concat_tables([_SCHEMA.empty_table(), *tables])


def write_queries(path: Path, queries: Sequence[Query]) -> None:
    """Write the table, wholly or not at all.

    Raises:
        UserError: the disk refused.
    """
    note = "the labels bought before are safe"
    # Only ids repeat; a dictionary of anything else could let a few bytes claim to be gigabytes: readers refuse it.
    options = {"compression": "zstd", "use_dictionary": ["image"], "write_statistics": False}
    with replacing(path, note) as file, explained(path, note), pq.ParquetWriter(file, _SCHEMA, **options) as writer:
        for group in _groups(queries):
            writer.write_table(to_table(group), row_group_size=2**30)


def read_queries(path: Path, images: Mapping[str, tuple[int, int]]) -> list[Query]:
    """The queries of a file again, in their order, known to be about these images.

    Args:
        path: the file.
        images: ``(H, W)`` of the data set's images, in its order.

    Raises:
        UserError: the file is missing or damaged, or asks what the data set does not have.
    """
    with readable(path, "restore it from a backup"):
        footer, ids, queries = _footer(path), list(images), list[Query]()
        if footer.rows > sum(height * width for height, width in images.values()):
            raise ValueError(f"{footer.rows} regions are more than the pixels of the data set")
        for group in range(len(footer.groups)):
            queries += _read_group(path, footer, group, ids, images)
        index = [query.index for query in queries]
        if sorted(set(index)) != index:
            raise ValueError("the images are not in the order of the data set")
        return queries


def holds_queries(path: Path, queries: Sequence[Query]) -> bool:
    """Whether a file holds just these queries.

    Raises:
        UserError: the file is missing or damaged.
    """
    expected = to_table(queries)
    with readable(path, "restore it from a backup"):
        footer, start = _footer(path), 0
        if footer.rows != expected.num_rows:
            return False
        payload = min(expected.column("inside").nbytes, PAYLOAD)
        for group in range(len(footer.groups)):
            found = read_columns(path, footer, group, _SCHEMA.names, payload)
            ours = expected.slice(start, found.num_rows).combine_chunks()
            start += found.num_rows
            texts = ours.set_column(0, "image", ours.column("image").dictionary_encode())
            (names, rows), (our_names, our_rows) = runs_of(found, "image"), runs_of(texts, "image")
            if names != our_names or rows.tolist() != our_rows.tolist():
                return False
            if not found.drop_columns("image").equals(ours.drop_columns("image")):
                return False
    return True


def _footer(path: Path) -> Footer:
    require_plain_file(path)
    return read_footer(path, _SCHEMA)


def _read_group(
    path: Path, footer: Footer, group: int, ids: Sequence[str], images: Mapping[str, tuple[int, int]]
) -> list[Query]:
    table = read_columns(path, footer, group, ["image", *_NUMBERS, "score"])
    names, starts = runs_of(table, "image")
    bounds = list(pairwise([*starts.tolist(), table.num_rows]))
    number = {name: numbers_of(table, name).astype(np.int32) for name in _NUMBERS}
    sizes = []
    for name, (start, stop) in zip(names, bounds, strict=True):
        index, regions = number["index"][start:stop], number["region"][start:stop]
        if not 0 <= index[0] < len(ids) or ids[index[0]] != name or (index != index[0]).any():
            raise ValueError(f"image {name!r} with index {index[0]} is none of the data set")
        if not np.array_equal(regions, np.arange(1, stop - start + 1)):
            raise ValueError(f"the regions of image {name!r} are not numbered 1, 2, 3, ...")
        require_size(name, images[name], stop - start)
        sizes.append(images[name])
    centres, boxes = _pack(number, "row", "column"), _pack(number, *_NUMBERS[4:])
    rows = np.repeat(np.array(sizes, dtype=np.int64), [stop - start for start, stop in bounds], axis=0)
    require_boxes(centres.astype(np.int64), boxes.astype(np.int64), rows)
    inside, scores = _read_inside(path, footer, group, boxes, bounds), numbers_of(table, "score").astype(np.float32)
    return [
        Query(int(number["index"][start]), name, centres[start:stop], boxes[start:stop], part, scores[start:stop])
        for name, (start, stop), part in zip(names, bounds, inside, strict=True)
    ]


def _read_inside(
    path: Path, footer: Footer, group: int, boxes: Int32Array, bounds: Sequence[tuple[int, int]]
) -> list[npt.NDArray[np.bool_] | None]:
    """Which pixels are asked, image by image; None for an image of which all are."""
    areas = box_sizes(boxes)
    table = read_columns(path, footer, group, ["inside"], payload=min(int(areas.sum()), PAYLOAD))
    column = table.column("inside").combine_chunks()
    given = column.is_valid().to_numpy(zero_copy_only=False)
    values = bytes_of(column.drop_null(), areas[given])
    if (values > 1).any():
        raise ValueError("a pixel is neither asked nor not asked")
    ends = np.concatenate([[0], np.cumsum(np.where(given, areas, 0))]).tolist()
    if any(given[start:stop].any() != given[start:stop].all() for start, stop in bounds):
        raise ValueError("an image is asked about in two ways")
    whole = values.astype(np.bool_)
    return [whole[ends[start] : ends[stop]].copy() if given[start] else None for start, stop in bounds]


def _pack(number: Mapping[str, Int32Array], *names: str) -> Int32Array:
    return np.stack([number[name] for name in names], axis=1)


def _groups(queries: Sequence[Query]) -> Iterator[list[Query]]:
    """The queries in parts of at least ``_ROWS`` rows or ``_BYTES`` bytes, an image never in two."""
    part: list[Query] = []
    rows = size = 0
    for query in queries:
        part.append(query)
        rows += len(query.centres)
        size += 0 if query.inside is None else query.inside.nbytes
        if rows >= _ROWS or size >= _BYTES:
            yield part
            part, rows, size = [], 0, 0
    if rows:
        yield part


def _image_table(query: Query) -> pa.Table:
    count = len(query.centres)
    numbers = [np.full(count, query.index), np.arange(1, count + 1), *query.centres.T, *query.boxes.T]
    columns = [pa.array(np.ascontiguousarray(each), pa.int32()) for each in numbers]
    image, score = pa.repeat(query.image_id, count), pa.array(query.scores)
    return pa.Table.from_arrays([image, *columns, _inside(query), score], schema=_SCHEMA)


def _inside(query: Query) -> pa.Array:
    if query.inside is None:
        return pa.nulls(len(query.centres), pa.binary())
    parts = np.split(query.inside.view(np.uint8), np.cumsum(box_sizes(query.boxes))[:-1])
    return pa.array([part.tobytes() for part in parts], pa.binary())
