"""One round as one Parquet file, a row a query: written as the answers come, read image by image.

Columns: ``image`` with ``image_height`` and ``image_width``; ``row`` and ``column`` of the centre; the box as
``box_top`` and ``box_left`` *relative to the centre* with ``box_height`` and ``box_width``; ``patch``, its
answers row by row, a byte a pixel; ``score``; and ``strategy``, ``annotator``, ``time``, constant in a round.
Queries that wait for answers are kept in the same format.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, first_line, replacing, require_plain_file
from ripu_lightning.labels.answers import NOT_QUERIED, VOID, Answers, Int64Array, UInt8Array, box_sizes
from ripu_lightning.labels.manifest import Images
from ripu_lightning.labels.round import Round

_CONSTANT = ("strategy", "annotator", "time")
_SIZE = ("image_height", "image_width")
_BOX = ("box_top", "box_left", "box_height", "box_width")
_NUMBERS = ("row", "column", *_SIZE, *_BOX)
SCHEMA = pa.schema(
    [("image", pa.string())]
    + [(name, pa.int32()) for name in _NUMBERS]
    + [("patch", pa.binary()), ("score", pa.float32())]
    + [(name, pa.string()) for name in _CONSTANT]
)
# Measured on 15 M regions (benchmarks/store_size.py): a byte of a coordinate or score compresses best among
# bytes of its own significance; what repeats costs nothing as a dictionary.
_ENCODING: dict[str, Any] = {
    "use_dictionary": ["image", *_SIZE, *_BOX, *_CONSTANT],
    "column_encoding": {
        **dict.fromkeys(("row", "column", "score"), "BYTE_STREAM_SPLIT"),
        "patch": "DELTA_LENGTH_BYTE_ARRAY",
    },
    "compression": "zstd",
    "compression_level": 9,
    "write_statistics": False,
}
# A row group is the unit of reading: small enough to read one image in a few milliseconds, large enough that
# its bookkeeping is a small part of the file. It ends with the image that reaches one of the two; no image is split.
_ROWS = 16_384
_BYTES = 8 << 20
_KEPT = 64 << 20  # bytes of decoded row groups


def write_round(
    path: Path,
    answers: Iterable[Answers],
    images: Images,
    classes: int,
    note: str,
    about: Mapping[str, str] | None,
    token: str = "",
) -> tuple[int, int, int]:
    """Write a round's file, wholly or not at all; returns its numbers of queries, pixels and void pixels.

    Args:
        path: the file to write.
        answers: one for each image of the round, written as they come.
        images: every image that may be queried.
        classes: number of classes.
        note: ends the line of a ``UserError``.
        about: the round's ``strategy``, ``annotator`` and ``time``; None for queries that wait for answers.
        token: what to write about such queries, see :attr:`RoundFile.token`.

    Raises:
        ValueError: answers that do not fit; the line names the image.
        UserError: the file cannot be written. Whatever ``answers`` raises passes through.
    """
    # Every round has a SHA-256 of its own, even empty ones.
    token = token if about is None else secrets.token_hex(16)
    total = np.zeros(3, dtype=np.int64)
    with replacing(path, note) as file:
        with explained(path, note):
            writer = pq.ParquetWriter(file, SCHEMA, **_ENCODING)
            writer.add_key_value_metadata({"round": token})
        try:
            for group in _groups(answers, images, classes):
                total += np.sum([(len(each), each.pixels, each.void) for each in group], axis=0)
                with explained(path, note):
                    writer.write_table(_to_table(group, images, about or {}), row_group_size=2**30)
            with explained(path, note):
                writer.close()
        except BaseException:
            try:
                writer.close()
            except (OSError, pa.ArrowException):  # the disk that failed once may fail again; nobody reads the file
                writer.is_open = False
            raise
    queries, pixels, void = total.tolist()
    return queries, pixels, void


def _groups(answers: Iterable[Answers], images: Images, classes: int) -> Iterator[list[Answers]]:
    """The answers in parts of at least ``_ROWS`` queries or ``_BYTES`` bytes, checked; empty ones are left out."""
    seen: set[str] = set()
    part: list[Answers] = []
    rows = size = 0
    for each in answers:
        _check(each, seen, images, classes)
        if len(each):
            part.append(each)
            rows, size = rows + len(each), size + each.values.nbytes
        if rows >= _ROWS or size >= _BYTES:
            yield part
            part, rows, size = [], 0, 0
    if part:
        yield part


def _check(answers: Answers, seen: set[str], images: Images, classes: int) -> None:
    name = answers.image_id
    if name not in images:
        raise ValueError(f"{name}: no image of this label store")
    if name in seen:
        raise ValueError(f"{name}: answered twice in one round; give all its answers at once")
    seen.add(name)
    if answers.values.nbytes > 2**30:  # the offsets of a column have 32 bits
        raise ValueError(f"{name}: {answers.values.nbytes} pixels are too many for one image")
    try:
        size = np.array([images[name]], dtype=np.int64)
        _require_inside(answers.centres.astype(np.int64), answers.boxes.astype(np.int64), size)
        _require_classes(answers.values, classes)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _require_inside(centres: Int64Array, boxes: Int64Array, sizes: Int64Array) -> None:
    """Raise ``ValueError`` unless every box and centre is inside its image ``(H, W)``; int64, so that nothing wraps."""
    corners, sides = boxes[:, :2], boxes[:, 2:]
    if (sides < 1).any() or (corners < 0).any() or (corners + sides > sizes).any():
        raise ValueError("a box is not inside its image")
    if (centres < 0).any() or (centres >= sizes).any():
        raise ValueError("a centre is outside its image")


def _require_classes(values: UInt8Array, classes: int) -> None:
    wrong = values[(values >= classes) & (values < NOT_QUERIED)]
    if len(wrong):
        raise ValueError(f"class index {wrong[0]}, but there are {classes} classes")


def _to_table(group: list[Answers], images: Images, about: Mapping[str, str]) -> pa.Table:
    image = np.repeat(np.arange(len(group)), [len(each) for each in group])
    sizes = np.array([images[each.image_id] for each in group], dtype=np.int32)[image]
    centres = np.concatenate([each.centres for each in group])
    boxes = np.concatenate([each.boxes for each in group])
    ends = np.concatenate([[0], np.cumsum(box_sizes(boxes))]).astype(np.int32)
    values = np.concatenate([each.values for each in group])
    numbers = [*centres.T, *sizes.T, *(boxes[:, :2] - centres).T, *boxes[:, 2:].T]
    columns = [
        pa.array([each.image_id for each in group]).take(pa.array(image)),
        *(pa.array(np.ascontiguousarray(each)) for each in numbers),
        pa.BinaryArray.from_buffers(pa.binary(), len(boxes), [None, pa.py_buffer(ends), pa.py_buffer(values)]),
        pa.array(np.concatenate([each.scores for each in group])),
        *(pa.repeat(about.get(name, ""), len(boxes)) for name in _CONSTANT),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


@contextmanager
def readable(path: Path, fix: str) -> Iterator[None]:
    """Turn the errors of a block that reads a damaged ``path`` into a ``UserError`` that ends with ``fix``."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {fix}") from None
    except (OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError, pa.ArrowException) as error:
        # Arrow also raises OSErrors, without a number, for content that it does not understand.
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path} cannot be read ({error.strerror}): {fix}") from error
        raise UserError(f"{path} is damaged ({first_line(error)}): {fix}") from error


class GroupCache:
    """The row groups decoded last: a walk through the images in the file's order decodes each group once.

    It takes no lock, so that a forked child can never wait for a thread it does not have; a pickled copy is empty.
    """

    def __init__(self) -> None:
        self._groups: dict[Any, Answers] = {}

    def get(self, key: Any, decode: Callable[[], Answers]) -> Answers:
        """The group of that key, decoded unless it is there."""
        group = self._groups.pop(key, None)
        group = self._groups[key] = decode() if group is None else group  # the last one is the one used last
        total = 0
        for old, each in reversed(list(self._groups.items())):
            total += each.values.nbytes + 28 * len(each)
            if total > _KEPT and old != key:
                self._groups.pop(old, None)
        return group

    def __reduce__(self) -> tuple[type["GroupCache"], tuple[()]]:
        return GroupCache, ()


class _Place(NamedTuple):
    group: int
    start: int  # first row inside the row group
    stop: int  # last + 1
    size: tuple[int, int]


class RoundFile:
    """Reads the answers of single images from one round's file.

    It keeps the index and the footer, no open file: it may be pickled, forked and shared by threads.

    Args:
        path: the file; its SHA-256 was checked, where there is one.
        classes: number of classes.
        images: every image there may be, where known.
        fix: ends the line of a ``UserError``.
        entry: the manifest's record of the round; None for pending queries.
        cache: of the store.

    Raises:
        UserError: the file does not hold what it must; also from every method that reads.
    """

    def __init__(
        self,
        path: Path,
        classes: int,
        images: Images | None,
        fix: str,
        entry: Round | None = None,
        cache: GroupCache | None = None,
    ) -> None:
        self._path, self._classes, self._fix, self._entry = path, classes, fix, entry
        self._cache: GroupCache = cache or GroupCache()
        with readable(path, fix):
            require_plain_file(path)
            self._footer = pq.read_metadata(path)
            if self._footer.schema.to_arrow_schema() != SCHEMA:
                raise ValueError("its columns are not those of this version")
            if entry is not None and self._footer.num_rows != entry.queries:
                raise ValueError(f"{self._footer.num_rows} queries, but the manifest says {entry.queries}")
            self._places = self._index(images)

    @property
    def images(self) -> list[str]:
        """Ids of the images with at least one query, in the order of the file."""
        return list(self._places)

    @property
    def token(self) -> str:
        """The text in the footer: of a round a random number, of queries what their writer gave."""
        with readable(self._path, self._fix):
            return (self._footer.metadata or {}).get(b"round", b"").decode()  # type: ignore[no-any-return]

    def read(self, image_id: str) -> tuple[Answers, tuple[int, int]] | None:
        """A copy of the answers about one image, and its ``(H, W)``; None where there are none."""
        place = self._places.get(image_id)
        if place is None:
            return None
        key = self._entry.sha256 if self._entry else self._path, place.group
        group = self._cache.get(key, lambda: self._decode(place.group))
        rows, ends = slice(place.start, place.stop), np.cumsum(box_sizes(group.boxes[: place.stop]))
        first = ends[place.start - 1] if place.start else 0
        values = group.values[first : ends[-1]].copy()
        centres, boxes, scores = group.centres[rows].copy(), group.boxes[rows].copy(), group.scores[rows].copy()
        return Answers(image_id, centres, boxes, values, scores), place.size

    def tally(self) -> Int64Array:
        """How many pixels each value got, ``(256,)``; reads the file completely and compares it with the manifest."""
        counts = np.zeros(256, dtype=np.int64)
        for group in range(self._footer.num_row_groups):
            counts += np.bincount(self._decode(group).values, minlength=256)
        found, entry = (int(counts.sum() - counts[NOT_QUERIED]), int(counts[VOID])), self._entry
        with readable(self._path, self._fix):
            if entry is not None and found != (entry.pixels, entry.void):
                raise ValueError(
                    f"{found[0]} pixels, {found[1]} void, but the manifest says {entry.pixels}, {entry.void}"
                )
        return counts

    def _columns(self, group: int, names: Iterable[str]) -> pa.Table:
        reader = pq.ParquetFile(self._path, metadata=self._footer)
        table = reader.read_row_group(group, columns=list(names), use_threads=False).combine_chunks()
        if any(column.null_count for column in table.columns):
            raise ValueError("a column has gaps")
        return table

    def _decode(self, group: int) -> Answers:
        """All rows of a group; their image ids are in the index."""
        with readable(self._path, self._fix):
            table = self._columns(group, [*_NUMBERS, "patch", "score"])
            number = {name: table.column(name).to_numpy().astype(np.int64) for name in _NUMBERS}
            centres = np.stack([number["row"], number["column"]], axis=1)
            boxes = np.stack([number[name] for name in _BOX], axis=1)
            boxes[:, :2] += centres
            _require_inside(centres, boxes, np.stack([number[name] for name in _SIZE], axis=1))
            patch = pa.concat_arrays(table.column("patch").chunks)
            bounds = np.frombuffer(patch.buffers()[1], dtype=np.int32)[patch.offset :][: len(patch) + 1]
            if not np.array_equal(np.diff(bounds), box_sizes(boxes)):
                raise ValueError("the answers do not fit the boxes")
            values = np.frombuffer(patch.buffers()[2] or b"", dtype=np.uint8)[bounds[0] : bounds[-1]]
            _require_classes(values, self._classes)
            scores = table.column("score").to_numpy()
            return Answers("", centres.astype(np.int32), boxes.astype(np.int32), values, scores)

    def _index(self, images: Images | None) -> dict[str, _Place]:
        places: dict[str, _Place] = {}
        for group in range(self._footer.num_row_groups):
            table = self._columns(group, ["image", *_SIZE])
            sizes = np.stack([table.column(name).to_numpy() for name in _SIZE], axis=1)
            runs = pc.run_end_encode(pa.concat_arrays(table.column("image").chunks))
            ends = [0, *runs.run_ends.to_pylist()]
            for name, (start, stop) in zip(runs.values.to_pylist(), pairwise(ends), strict=True):
                height, width = sizes[start].tolist()
                if (sizes[start:stop] != (height, width)).any():
                    raise ValueError(f"image {name!r} changes its size")
                if name in places:
                    raise ValueError(f"image {name!r} comes twice")
                if images is not None and images.get(name) != (height, width):
                    raise ValueError(f"image {name!r} of {height} x {width} pixels is none of this store")
                places[name] = _Place(group, start, stop, (height, width))
        return places
