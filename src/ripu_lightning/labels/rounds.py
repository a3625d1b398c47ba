"""One round as one Parquet file, a row a query: written in row groups as answers come, read image by image.

Columns: ``image`` with ``image_height`` and ``image_width``; ``row`` and ``column`` of the centre; the box as
``box_top`` and ``box_left`` *relative to the centre* with ``box_height`` and ``box_width``; ``patch``, its
answers row by row, a byte a pixel; ``score``; and ``strategy``, ``annotator``, ``time``, constant in a round.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ripu_lightning.labels.answers import Answers, box_sizes

_CONSTANT = ("strategy", "annotator", "time")
_REPEATED = ("image_height", "image_width", "box_top", "box_left", "box_height", "box_width")
_SCHEMA = pa.schema(
    [("image", pa.string()), ("row", pa.int32()), ("column", pa.int32())]
    + [(name, pa.int32()) for name in _REPEATED]
    + [("patch", pa.binary()), ("score", pa.float32())]
    + [(name, pa.string()) for name in _CONSTANT]
)
_READ = ("row", "column", *_REPEATED, "patch", "score")

# Measured on 15 M regions (benchmarks/store_size.py): a byte of a coordinate or score compresses best among
# bytes of its own significance; what repeats costs nothing as a dictionary.
_ENCODING: dict[str, Any] = {
    "use_dictionary": ["image", *_REPEATED, *_CONSTANT],
    "column_encoding": {
        "row": "BYTE_STREAM_SPLIT",
        "column": "BYTE_STREAM_SPLIT",
        "score": "BYTE_STREAM_SPLIT",
        "patch": "DELTA_LENGTH_BYTE_ARRAY",
    },
    "compression": "zstd",
    "compression_level": 9,
    "write_statistics": False,
}
# A row group is the unit of reading: small enough to read one image in a few milliseconds, large enough that
# its bookkeeping is a small part of the file.
_ROWS = 16_384
_BYTES = 8 << 20


class RoundWriter:
    """Writes answers to an open file in row groups; an image is never split over two.

    Args:
        file: binary file open for writing; stays open.
        constants: the round's ``strategy``, ``annotator`` and ``time``.
    """

    def __init__(self, file: BinaryIO, constants: Mapping[str, str]) -> None:
        self.queries = self.pixels = self.void = 0
        self._rows = self._bytes = 0
        self._constants = constants
        self._pending: list[tuple[Answers, tuple[int, int]]] = []
        self._writer = pq.ParquetWriter(file, _SCHEMA, **_ENCODING)

    def append(self, answers: Answers, size: tuple[int, int]) -> None:
        """Add the answers of one image of ``size`` ``(H, W)``."""
        self._pending.append((answers, size))
        self._rows += len(answers)
        self._bytes += answers.values.nbytes
        self.queries += len(answers)
        self.pixels += answers.pixels
        self.void += answers.void
        if self._rows >= _ROWS or self._bytes >= _BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is pending and the footer."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Stop in the middle: the file is of no use."""
        self._pending.clear()
        try:
            self._writer.close()
        except (OSError, pa.ArrowException):
            # The disk that failed once may fail again on the footer; nobody will read it.
            self._writer.is_open = False

    def _flush(self) -> None:
        pending = [entry for entry in self._pending if len(entry[0])]
        if pending:
            self._writer.write_table(_to_table(pending, self._constants), row_group_size=2**30)
        self._pending.clear()
        self._rows = self._bytes = 0


def _to_table(pending: list[tuple[Answers, tuple[int, int]]], constants: Mapping[str, str]) -> pa.Table:
    counts = np.array([len(answers) for answers, _ in pending])
    centres = np.concatenate([answers.centres for answers, _ in pending])
    boxes = np.concatenate([answers.boxes for answers, _ in pending])
    sizes = np.repeat(np.array([size for _, size in pending], dtype=np.int32), counts, axis=0)
    image = pa.array([answers.image_id for answers, _ in pending]).take(
        pa.array(np.repeat(np.arange(len(counts)), counts))
    )
    ends = np.concatenate([[0], np.cumsum(box_sizes(boxes))]).astype(np.int32)
    values = np.concatenate([answers.values for answers, _ in pending])
    patch = pa.BinaryArray.from_buffers(pa.binary(), len(boxes), [None, pa.py_buffer(ends), pa.py_buffer(values)])
    numbers = [*centres.T, *sizes.T, *(boxes[:, :2] - centres).T, *boxes[:, 2:].T]
    scores = np.concatenate([answers.scores for answers, _ in pending])
    constant = [pa.repeat(constants[name], len(boxes)) for name in _CONSTANT]
    arrays = [image, *(pa.array(np.ascontiguousarray(each)) for each in numbers), patch, pa.array(scores)]
    return pa.Table.from_arrays([*arrays, *constant], schema=_SCHEMA)


class _Place(NamedTuple):
    """Where an image's rows lie: row group, and first and last + 1 row inside it."""

    group: int
    start: int
    stop: int


class RoundFile:
    """Reads the answers of single images out of one round's file.

    It keeps the index and the footer, no open file: it may be pickled, forked and shared by threads.

    Raises:
        OSError, pyarrow.ArrowException, ValueError: not a file that :class:`RoundWriter` wrote.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._footer = pq.read_metadata(path)
        if self._footer.schema.to_arrow_schema() != _SCHEMA:
            raise ValueError("its columns are not those of a label store")
        self._places = self._index()

    @property
    def images(self) -> list[str]:
        """Ids of the images with at least one query, in the order of the file."""
        return list(self._places)

    def read(self, image_id: str) -> tuple[Answers, tuple[int, int]] | None:
        """The answers about one image and its ``(H, W)``; None where there are none."""
        place = self._places.get(image_id)
        if place is None:
            return None
        table = self._open().read_row_group(place.group, columns=list(_READ), use_threads=False)
        rows = table.slice(place.start, place.stop - place.start)
        number = {name: rows.column(name).to_numpy() for name in _READ if name != "patch"}
        centres = np.stack([number["row"], number["column"]], axis=1)
        corners = centres + np.stack([number["box_top"], number["box_left"]], axis=1)
        sides = np.stack([number["box_height"], number["box_width"]], axis=1)
        boxes = np.concatenate([corners, sides], axis=1)
        answers = Answers(image_id, centres, boxes, _bytes_of(rows.column("patch")), number["score"])
        return answers, (int(number["image_height"][0]), int(number["image_width"][0]))

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(
            self._path, metadata=self._footer, memory_map=True, pre_buffer=False, read_dictionary=["image"]
        )

    def _index(self) -> dict[str, _Place]:
        places: dict[str, _Place] = {}
        file = self._open()
        for group in range(self._footer.num_row_groups):
            column = file.read_row_group(group, columns=["image"], use_threads=False).column("image")
            codes = column.combine_chunks()
            code = codes.indices.to_numpy()
            bounds = np.flatnonzero(np.diff(code, prepend=-1, append=-1)).tolist()
            for start, stop in pairwise(bounds):
                places[codes.dictionary[int(code[start])].as_py()] = _Place(group, start, stop)
        return places


def _bytes_of(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    chunk = column.combine_chunks()
    _, offsets, content = chunk.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return np.frombuffer(content, dtype=np.uint8)[bounds[0] : bounds[-1]].copy()
