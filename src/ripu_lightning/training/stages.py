"""Stages: at which steps rounds are bought, and which steps lie between them."""

from dataclasses import dataclass

from ripu_lightning.errors import UserError


@dataclass(frozen=True)
class Stages:
    """A run of ``steps`` optimiser steps, cut where labels are bought; each stage is one Lightning epoch.

    Args:
        steps: of the whole run.
        first_round: the step after which the first round is bought; until then the target has no labels. With 0 it
            is bought before the first step, by the weights that the run starts from.
        interval: steps between rounds.
        rounds: number of rounds, 0 or more.

    Raises:
        UserError: rounds that do not fit into the steps, or values out of range.

    >>> Stages(steps=100, first_round=40, interval=20, rounds=2).spans
    [(0, 40), (40, 60), (60, 100)]
    >>> Stages(steps=100, first_round=0, interval=20, rounds=2).spans
    [(0, 20), (20, 100)]
    """

    steps: int
    first_round: int
    interval: int
    rounds: int

    def __post_init__(self) -> None:
        for key, least in (("steps", 1), ("first_round", 0), ("interval", 1), ("rounds", 0)):
            value = getattr(self, key)
            if not isinstance(value, int) or value < least:
                group = "budget" if key == "rounds" else "schedule"
                raise UserError(f"{group}.{key}: expected a whole number, {least} or more, got {value!r}")
        last = self.first_round + (self.rounds - 1) * self.interval
        if self.rounds and last >= self.steps:
            raise UserError(
                f"budget.rounds: round {self.rounds} would come after step {last}, but the run has {self.steps} steps "
                "and must train on what it bought; fewer rounds, a smaller schedule.interval or more schedule.steps"
            )

    @property
    def spans(self) -> list[tuple[int, int]]:
        """``(start, stop)`` of each stage; stage n trains on the first n + :attr:`early` rounds."""
        cuts = [self.first_round + number * self.interval for number in range(self.early, self.rounds)]
        return list(zip([0, *cuts], [*cuts, self.steps], strict=True))

    @property
    def early(self) -> int:
        """Rounds that are bought before the first step: 1 or 0."""
        return int(self.first_round == 0 and self.rounds > 0)
