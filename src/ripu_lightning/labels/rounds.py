"""One round as one Parquet file, a row a query, written in row groups as answers come; ``reading`` reads it.

Columns: ``image`` with ``image_height`` and ``image_width``; ``row`` and ``column`` of the centre; the box as
``box_top`` and ``box_left`` *relative to the centre* with ``box_height`` and ``box_width``; ``patch``, its
answers row by row, a byte a pixel; ``score``; and ``strategy``, ``annotator``, ``time``, constant in a round.
The footer holds a random ``round``, so that no two rounds ever have the same SHA-256, not even empty ones.
"""

import secrets
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ripu_lightning.labels.answers import Answers, box_sizes

_CONSTANT = ("strategy", "annotator", "time")
REPEATED = ("image_height", "image_width", "box_top", "box_left", "box_height", "box_width")
SCHEMA = pa.schema(
    [("image", pa.string()), ("row", pa.int32()), ("column", pa.int32())]
    + [(name, pa.int32()) for name in REPEATED]
    + [("patch", pa.binary()), ("score", pa.float32())]
    + [(name, pa.string()) for name in _CONSTANT]
)

# Measured on 15 M regions (benchmarks/store_size.py): a byte of a coordinate or score compresses best among
# bytes of its own significance; what repeats costs nothing as a dictionary.
_ENCODING: dict[str, Any] = {
    "use_dictionary": ["image", *REPEATED, *_CONSTANT],
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
        self._writer = pq.ParquetWriter(file, SCHEMA, **_ENCODING)
        self._writer.add_key_value_metadata({"round": secrets.token_hex(16)})

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
    return pa.Table.from_arrays([*arrays, *constant], schema=SCHEMA)
