"""Queries as a Parquet file, a row a region, and bit for bit back: what was asked outlives the process that asked.

Columns: ``image`` and ``index``, its position in the data set; ``region``, counted from 1 in each image; ``row`` and
``column`` of the centre; the box; ``inside``, a byte a pixel of the box that tells whether it is asked, null where all
of it is; and ``score``.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ripu_lightning.annotation.annotators import Query
from ripu_lightning.errors import UserError
from ripu_lightning.labels.answers import box_sizes
from ripu_lightning.labels.files import explained, replacing

_NUMBERS = ("index", "region", "row", "column", "box_top", "box_left", "box_height", "box_width")
_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        *((name, pa.int32()) for name in _NUMBERS),
        ("inside", pa.binary()),
        ("score", pa.float32()),
    ]
)


def to_table(queries: Sequence[Query]) -> pa.Table:
    """The columns; an image without regions leaves no row."""
    tables = [_image_table(query) for query in queries if len(query.centres)]
    return pa.concat_tables([_SCHEMA.empty_table(), *tables])


def from_table(table: pa.Table) -> list[Query]:
    """The queries again, in their order."""
    index = table.column("index").to_numpy()
    bounds = np.flatnonzero(np.diff(index, prepend=-1, append=-1)).tolist()
    return [_image_query(table.slice(start, stop - start)) for start, stop in pairwise(bounds)]


def write_queries(path: Path, queries: Sequence[Query]) -> None:
    """Write the table, wholly or not at all.

    Raises:
        UserError: the disk refused.
    """
    note = "the labels bought before are safe"
    with replacing(path, note) as file, explained(path, note):
        pq.write_table(to_table(queries), file, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """The table of a file.

    Raises:
        UserError: the file is missing, is damaged or has other columns.
    """
    try:
        table = pq.ParquetFile(path).read()
        if table.schema != _SCHEMA:
            raise ValueError("its columns are not those of queries")
        return table
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: can not be read ({reason}); restore it from a backup") from error


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


def _image_query(rows: pa.Table) -> Query:
    number = {name: rows.column(name).to_numpy() for name in _NUMBERS}
    inside = rows.column("inside")
    return Query(
        index=int(number["index"][0]),
        image_id=rows.column("image")[0].as_py(),
        centres=np.stack([number["row"], number["column"]], axis=1),
        boxes=np.stack([number[name] for name in _NUMBERS[4:]], axis=1),
        inside=None if inside.null_count else np.frombuffer(b"".join(inside.to_pylist()), np.uint8).astype(np.bool_),
        scores=rows.column("score").to_numpy(),
    )
