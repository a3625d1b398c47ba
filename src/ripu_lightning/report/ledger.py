"""The ledger of a run: what its labels cost and which pixels they are, round by round, beside the pool they come from.

It needs neither torch nor Lightning, so that it is read quickly.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ripu_lightning.errors import UserError
from ripu_lightning.files import replacing
from ripu_lightning.labels.entry import LARGEST, is_sha256
from ripu_lightning.untrusted import is_line, leaves, parse_json, read_bounded

NAME = "ledger.json"
LARGEST_FILE = 2**23
"""Bytes; enough for thousands of rounds of many classes."""


@dataclass(frozen=True)
class RoundCost:
    """One round's purchase, by itself: the rounds of a run add up, but for ``images``.

    Attributes:
        number: of the round, from 1.
        sha256: of the round in the label store.
        queries: picks.
        clicks: a pick of one pixel is one click; a larger one takes a click for each distinct class of its answer, and
            one for its void.
        images: that were asked about in this round.
        new_images: of these, not asked about in an earlier round.
        pixels: asked, void included.
        void: of these, without a class.
        classes: pixels of each class.
        kept: answered pixels (void excluded) that the resize to the training size looks at.
        trained: pixels of the training size that get a label by them.
        boundary: answered pixels whose truth lies on a boundary
            (:func:`~ripu_lightning.data.statistics.on_boundary`); None where the truth may not be read.
    """

    number: int
    sha256: str
    queries: int
    clicks: int
    images: int
    new_images: int
    pixels: int
    void: int
    classes: list[int]
    kept: int
    trained: int
    boundary: int | None


@dataclass(frozen=True)
class Pool:
    """All pixels that the run could ask about, by the truth.

    Attributes:
        classes: pixels of each class.
        void: pixels without one.
        boundary: pixels on a boundary.
    """

    classes: list[int]
    void: int
    boundary: int


@dataclass(frozen=True)
class Ledger:
    """What ``ledger.json`` holds.

    Attributes:
        classes: names.
        colors: RGB of each, 0..255.
        geometry: of the picks, such as ``square``.
        images: of the pool.
        pixels: of the pool.
        pool: None where the truth may not be read.
        rounds: in order; each round by itself.
    """

    classes: list[str]
    colors: list[list[int]]
    geometry: str
    images: int
    pixels: int
    pool: Pool | None
    rounds: list[RoundCost]

    def write(self, folder: Path) -> None:
        """Write ``ledger.json`` into a folder, atomically. Raises UserError where that can not be done."""
        with replacing(folder / NAME, "the labels that were bought are safe") as file:
            file.write(f"{json.dumps(asdict(self), indent=1)}\n".encode())

    def total(self, name: str, through: int | None = None) -> int | None:
        """Sum of one of the numbers of :class:`RoundCost` over the first rounds; None where one of them has none."""
        values = [getattr(cost, name) for cost in self.rounds[:through]]
        return None if None in values else sum(values)

    def bought(self, through: int | None = None) -> list[int]:
        """Pixels of each class that the first rounds bought."""
        rounds = [cost.classes for cost in self.rounds[:through]]
        return [sum(column) for column in zip(*rounds, strict=True)] if rounds else [0] * len(self.classes)


def read_ledger(path: Path) -> Ledger:
    """The ledger in a file.

    Raises:
        UserError: it can not be read, or is no ledger.
    """
    try:
        content = parse_json(read_bounded(path, LARGEST_FILE))
        ledger = Ledger(**_only(Ledger, content))
        pool = None if ledger.pool is None else Pool(**_only(Pool, content["pool"]))
        ledger = Ledger(
            **{**content, "pool": pool, "rounds": [RoundCost(**_only(RoundCost, cost)) for cost in content["rounds"]]}
        )
        whole = _is_whole(ledger) and all(is_line(leaf) for leaf in leaves(content) if isinstance(leaf, str))
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise UserError(f"{path}: not a whole ledger; have ripu-train write it anew")
    return ledger


def _only(kind: type, content: Mapping[str, Any]) -> Mapping[str, Any]:
    if set(content) != {field.name for field in fields(kind)}:
        raise ValueError("other keys")
    return content


def _is_whole(ledger: Ledger) -> bool:
    count = len(ledger.classes)
    parts = [ledger.pool] if ledger.pool else []
    lists = [cost.classes for cost in ledger.rounds] + [pool.classes for pool in parts]
    channels = [channel for color in ledger.colors for channel in color]
    return (
        all(type(name) is str for name in [*ledger.classes, ledger.geometry])
        and len(ledger.colors) == count
        and all(len(color) == 3 for color in ledger.colors)
        and all(_is_count(channel) and channel <= 255 for channel in channels)
        and all(len(values) == count and all(map(_is_count, values)) for values in lists)
        and all(map(_is_count, (ledger.images, ledger.pixels)))
        and all(_is_count(pool.void) and _is_count(pool.boundary) for pool in parts)
        and all(map(_is_cost, ledger.rounds))
        and [cost.number for cost in ledger.rounds] == list(range(1, len(ledger.rounds) + 1))
    )


def _is_cost(cost: RoundCost) -> bool:
    others = {"sha256", "classes", "boundary"}
    counts = [getattr(cost, field.name) for field in fields(RoundCost) if field.name not in others]
    boundary = cost.boundary is None or _is_count(cost.boundary)
    return all(map(_is_count, counts)) and is_sha256(cost.sha256) and boundary


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < LARGEST
