"""The ledger of a run: what its labels cost and which pixels they are, round by round, and the pool they come from.

It needs neither torch nor Lightning, so that it is read quickly.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ripu_lightning.errors import UserError
from ripu_lightning.report.json_records import Count, Sha256, read_record, write_record

NAME = "ledger.json"


@dataclass(frozen=True)
class RoundCost:
    """One round by itself: the rounds of a run add up, except for ``images``.

    Attributes:
        number: of the round, from 1.
        sha256: of the round in the label store.
        queries: their number.
        clicks: a query of one pixel is one click; a larger one takes a click for each distinct class of its answer, and
            one for its void.
        images: with a query in this round.
        new_images: of these, without a query in an earlier round.
        pixels: queried, void included.
        void: of these, without a class.
        classes: pixels of each class.
        kept: answered pixels (void excluded) that the resize to the training size keeps.
        trained: pixels of the training size that get a label by them.
        boundary: answered pixels on a boundary of the truth
            (:func:`~ripu_lightning.data.statistics.on_boundary`); None where the truth may not be read.
    """

    number: Count
    sha256: Sha256
    queries: Count
    clicks: Count
    images: Count
    new_images: Count
    pixels: Count
    void: Count
    classes: list[Count]
    kept: Count
    trained: Count
    boundary: Count | None


@dataclass(frozen=True)
class Pool:
    """All pixels that the run could query, by the truth.

    Attributes:
        classes: pixels of each class.
        void: pixels without one.
        boundary: pixels on a boundary.
    """

    classes: list[Count]
    void: Count
    boundary: Count


@dataclass(frozen=True)
class Ledger:
    """What ``ledger.json`` holds.

    Attributes:
        classes: names.
        colors: RGB of each, 0..255.
        region_type: of the queries, such as ``square``.
        images: of the pool.
        pixels: of the pool.
        pool: None where the truth may not be read.
        rounds: in order; each round by itself.
    """

    classes: list[str]
    colors: list[list[Annotated[int, 0, 255]]]
    region_type: str
    images: Count
    pixels: Count
    pool: Pool | None
    rounds: list[RoundCost]

    def write(self, folder: Path) -> None:
        """Write ``ledger.json`` into a folder in one step. Raises UserError where it cannot be written."""
        write_record(self, folder / NAME)

    def total(self, name: str) -> int | None:
        """Sum of one of the numbers of :class:`RoundCost` over all rounds; None where one of them has none."""
        values = [getattr(cost, name) for cost in self.rounds]
        return None if None in values else sum(values)

    def class_pixels(self) -> list[int]:
        """Labelled pixels of each class."""
        rounds = [cost.classes for cost in self.rounds]
        return [sum(column) for column in zip(*rounds, strict=True)] if rounds else [0] * len(self.classes)


def read_ledger(path: Path) -> Ledger:
    """The ledger in a file.

    Raises:
        UserError: it cannot be read, or is no ledger.
    """
    ledger = read_record(path, Ledger)
    lengths = {len(ledger.colors), *(len(cost.classes) for cost in ledger.rounds)}
    lengths |= {len(ledger.pool.classes)} if ledger.pool else set()
    consistent = (
        lengths == {len(ledger.classes)}
        and all(len(color) == 3 for color in ledger.colors)
        and [cost.number for cost in ledger.rounds] == list(range(1, len(ledger.rounds) + 1))
    )
    if not consistent:
        raise UserError(f"{path}: not a complete ledger file; write it again with ripu-train")
    return ledger
