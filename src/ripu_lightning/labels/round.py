"""The record of a committed round, as the manifest holds it."""

import re
from dataclasses import dataclass, fields

LARGEST = 2**62
"""Counts below this can be summed in 64 bits."""
MOST_ROUNDS = 65_535
"""As many as :meth:`~ripu_lightning.labels.store.LabelStore.query_round` can number in 16 bits."""


@dataclass(frozen=True)
class Round:
    """One committed round; its ``sha256`` identifies it.

    Args:
        number: counted from 1: one more than that of its parent.
        file: plain name of its Parquet file.
        sha256: of that file, hexadecimal.
        parent: ``sha256`` of the round before it; None for a first round.
        queries: number of queries.
        pixels: number of queried pixels, void ones included.
        void: number of queried pixels without a class.
        strategy: name of the strategy that selected the queries.
        annotator: name of the annotator that answered them.
        exclusion: radius of the square that became unavailable around each centre, in pixels.
        time: of the commit, UTC, ISO 8601.

    Raises:
        ValueError: a value of another type or outside its range.
    """

    number: int
    file: str
    sha256: str
    parent: str | None
    queries: int
    pixels: int
    void: int
    strategy: str
    annotator: str
    exclusion: int
    time: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, field.type) or isinstance(value, bool):  # type: ignore[arg-type]
                raise ValueError(f"round {self.number!r}: {field.name} is {value!r}")
            if isinstance(value, str):
                value.encode()  # half a surrogate pair can neither be written nor printed
        counts = (self.queries, self.pixels, self.void)
        if min(counts) < 0 or max(counts) >= LARGEST or self.void > self.pixels:
            raise ValueError(f"round {self.number}: impossible counts {counts}")
        if not (1 <= self.number <= MOST_ROUNDS and 0 <= self.exclusion < 2**31):
            raise ValueError(f"round {self.number}: impossible number, or impossible exclusion {self.exclusion}")
        # A name with a folder in it could lead the reader out of the store.
        if not re.fullmatch(r"round_[0-9]{3,9}(_[0-9]{1,9})?\.parquet", self.file):
            raise ValueError(f"round {self.number}: {self.file!r} is not the name of a round's file")
        for digest in (self.sha256, self.parent or self.sha256):
            if not is_sha256(digest):
                raise ValueError(f"round {self.number}: {digest!r} is no SHA-256")

    @property
    def id(self) -> str:
        """The first digits of its SHA-256, for people."""
        return self.sha256[:8]


def is_sha256(text: str) -> bool:
    """Whether ``text`` is a hexadecimal SHA-256, in lower case."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
