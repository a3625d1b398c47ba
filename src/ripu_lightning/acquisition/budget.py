"""Budgets: how many picks an image gets in a round."""

import math
from dataclasses import dataclass

from ripu_lightning.errors import UserError


@dataclass(frozen=True)
class Budget:
    """A share of each image's pixels, or a number of clicks an image, split evenly over the rounds.

    Args:
        ratio: share of an image's pixels over all rounds, above 0 and up to 1 (Xie et al.: 0.022 or 0.05).
        clicks: picks an image over all rounds, 1 or more (Xie et al., pixel-based: 40; their public code: 105).
        rounds: number of rounds, 0 or more; 0 buys nothing.

    Raises:
        UserError: both or neither of ``ratio`` and ``clicks``, or a value out of range.
    """

    ratio: float | None = None
    clicks: int | None = None
    rounds: int = 5

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise UserError(f"budget.rounds: expected 0 or more, got {self.rounds}")
        if self.rounds and self.ratio is None and self.clicks is None:
            raise UserError("budget: give either ratio (share of pixels) or clicks (picks an image)")
        if self.ratio is not None and self.clicks is not None:
            raise UserError("budget: give either ratio (share of pixels) or clicks (picks an image), not both")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise UserError(f"budget.ratio: expected a share above 0 and up to 1, got {self.ratio}")
        if self.clicks is not None and self.clicks < 1:
            raise UserError(f"budget.clicks: expected 1 or more, got {self.clicks}")

    def picks(self, round_number: int, height: int, width: int, radius: int) -> int:
        """Picks of one image in one round (1-based), each labelling a square of the given radius.

        A ratio gives ``ceil(H*W*ratio / rounds / (2k+1)^2)`` in every round; clicks are spread so that they sum up
        exactly. Asking for more than the image holds is an error.

        Raises:
            ValueError: a round outside 1..rounds.
            UserError: more clicks than the image has pixels.

        >>> Budget(ratio=0.022).picks(1, 1024, 2048, radius=1)
        1026
        >>> [Budget(clicks=40, rounds=3).picks(r, 100, 100, radius=0) for r in (1, 2, 3)]
        [13, 13, 14]
        """
        if not 1 <= round_number <= self.rounds:
            raise ValueError(f"expected a round in 1..{self.rounds}, got {round_number}")
        area = (2 * radius + 1) ** 2
        if self.ratio is not None:
            return math.ceil(height * width * self.ratio / self.rounds / area)
        clicks = self.clicks or 0
        if clicks > height * width:
            raise UserError(f"budget.clicks: {clicks} clicks, but an image of {height}x{width} pixels")
        return clicks * round_number // self.rounds - clicks * (round_number - 1) // self.rounds
