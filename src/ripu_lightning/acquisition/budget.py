"""Budgets: how much may be labelled, of each image or of the pool, and in which round."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from ripu_lightning.errors import InvalidArgument, require_choice, require_integer, require_number

UNITS = ("ratio", "pixels", "clicks", "regions", "images")
SPLITS = ("even", "geometric")


@dataclass(frozen=True)
class Budget:
    """An amount in one unit, of each image or of the pool, for all rounds together.

    Args:
        ratio: share of the pixels, above 0 and up to 1: 0.022 for 2.2% (Xie et al., 2022: 0.022 or 0.05 of each image).
        pixels: number of pixels.
        clicks: number of queries, whatever a query labels (Xie et al., pixel-based: 40 an image; their code: 105).
        regions: number of queries of squares or superpixels.
        images: number of queries of whole images.
        per: ``image`` spends the amount on each image, ``pool`` on the best regions of all images together.
        rounds: number of rounds, 0 or more; 0 labels nothing. The schedule has as many.
        split: ``even``; ``geometric``, where each round has twice as much as the one before; or a list with a
            weight for each round.
        most: with ``pool``, an image gets at most this many times its even share, 1 or more; None sets no bound.

    Raises:
        InvalidArgument: not exactly one unit, or a value out of range.
    """

    ratio: float | None = None
    pixels: int | None = None
    clicks: int | None = None
    regions: int | None = None
    images: int | None = None
    per: Literal["image", "pool"] = "image"
    rounds: int = 5
    split: str | Sequence[float] = "even"
    most: float | None = None

    def __post_init__(self) -> None:
        require_integer("Budget", "rounds", self.rounds)
        given = [unit for unit in UNITS if getattr(self, unit) is not None]
        if len(given) > 1 or (self.rounds and not given):
            problem = f"must be exactly one of {', '.join(UNITS)}; got {', '.join(given) or 'none'}"
            raise InvalidArgument("Budget", "unit", problem)
        for unit in given:
            if unit == "ratio":
                require_number("Budget", unit, self.ratio, above=True, most=1)
            else:
                require_integer("Budget", unit, getattr(self, unit), least=1)
        require_choice("Budget", "per", self.per, ("image", "pool"))
        if self.most is not None:
            require_number("Budget", "most", self.most, least=1)
            if self.per != "pool":
                raise InvalidArgument("Budget", "most", "bounds the images of a budget of the pool; set per='pool' too")
        self._check_split()

    @property
    def unit(self) -> str | None:
        """The given unit; None if nothing is labelled."""
        return next((unit for unit in UNITS if getattr(self, unit) is not None), None)

    @property
    def counts_pixels(self) -> bool:
        """Whether a query costs its pixels (``ratio``, ``pixels``) or 1."""
        return self.unit in ("ratio", "pixels")

    def amount(self, round_number: int, pixels: int) -> float:
        """The amount of one round, in pixels or in queries; the amounts of all rounds sum up exactly.

        Queries are selected until the amount is reached: a round overspends by less than a query.
        For squares that is ``ceil(H*W*ratio / rounds / (2k+1)^2)`` queries, as published.

        Args:
            round_number: from 1.
            pixels: of the image, or of all images of the pool.

        Raises:
            ValueError: a round outside 1..rounds.

        >>> Budget(ratio=0.022).amount(1, 1024 * 2048) / 9
        1025.2
        >>> [Budget(clicks=40, rounds=3).amount(r, 10_000) for r in (1, 2, 3)]
        [13, 13, 14]
        >>> [Budget(images=70, per="pool", rounds=3, split="geometric").amount(r, 10_000) for r in (1, 2, 3)]
        [10, 20, 40]
        """
        if not 1 <= round_number <= self.rounds:
            raise ValueError(f"expected a round in 1..{self.rounds}, got {round_number}")
        weights = self.weights
        if self.ratio is not None:
            return pixels * self.ratio / sum(weights) * weights[round_number - 1]
        total = int(getattr(self, self.unit or "clicks"))
        reached = list(accumulate(weights))
        spent = [0, *(int(total * (part / reached[-1]) + 1e-9) for part in reached)]
        return spent[round_number] - spent[round_number - 1]

    @property
    def weights(self) -> list[float]:
        """The share of each round, as a multiple of the others'."""
        if isinstance(self.split, str):
            return [1 if self.split == "even" else 2**number for number in range(self.rounds)]
        return list(self.split)

    def _check_split(self) -> None:
        if self.split in SPLITS:
            return
        weights = [] if isinstance(self.split, (str, int, float)) else list(self.split)
        if not weights or not all(isinstance(weight, (int, float)) for weight in weights):
            problem = f"must be 'even', 'geometric' or a list of weights, got {self.split!r}"
            raise InvalidArgument("Budget", "split", problem)
        if len(weights) != self.rounds or not 0 < sum(weights) < math.inf or min(weights) < 0:
            problem = f"must be {self.rounds} weights of 0 or more (one a round) with a positive sum, got {weights}"
            raise InvalidArgument("Budget", "split", problem)
