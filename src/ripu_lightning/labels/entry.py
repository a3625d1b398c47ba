"""What the manifest says of one committed round."""

import re
from dataclasses import dataclass, fields

LARGEST = 2**62
"""Counts below this can be summed in 64 bits."""
MOST_ROUNDS = 65_535
"""As many as the 16 bits of :meth:`~ripu_lightning.labels.store.LabelStore.asked` can number."""


@dataclass(frozen=True)
class Round:
    """One committed round; its ``sha256`` tells it from all others.

    Args:
        number: counted from 1: one more than that of the round before it.
        file: plain name of its Parquet file.
        sha256: of that file, hexadecimal.
        parent: ``sha256`` of the round before it; None for a first round.
        queries: number of queries.
        pixels: number of pixels asked (void answers included).
        void: number of pixels asked that the annotator could not name.
        strategy: what picked the queries.
        annotator: who answered.
        exclusion: radius of the square that became unavailable around each centre, in pixels.
        time: of the commit, UTC, ISO 8601.

    Raises:
        ValueError: a value that can not be.
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
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, entry.type) or isinstance(value, bool):  # type: ignore[arg-type]
                raise ValueError(f"round {self.number!r}: {entry.name} is {value!r}")
            if isinstance(value, str):
                value.encode()  # half a surrogate pair can neither be written nor printed
        counts = (self.queries, self.pixels, self.void)
        if min(counts) < 0 or max(counts) >= LARGEST or self.void > self.pixels:
            raise ValueError(f"round {self.number}: counts of {counts} can not be")
        if not (1 <= self.number <= MOST_ROUNDS and 0 <= self.exclusion < 2**31):
            raise ValueError(f"round {self.number}: its number or its exclusion {self.exclusion} can not be")
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
    """Whether ``text`` is a hexadecimal SHA-256, in small letters."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
