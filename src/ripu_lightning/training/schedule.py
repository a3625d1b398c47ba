"""The schedule: at which optimizer steps rounds take place, and which steps lie between them."""

from dataclasses import dataclass

from ripu_lightning.errors import InvalidArgument, require_integer


@dataclass(frozen=True)
class Schedule:
    """A run of ``steps`` optimizer steps, divided into stages by its rounds; each stage is one Lightning epoch.

    Args:
        steps: steps of the whole run, 1 or more.
        first_round: step after which the first round takes place, 0 or more; until then the target has no labels. With
            0 the first round comes before the first step and scores with the initial weights.
        interval: steps between two rounds, 1 or more.
        rounds: number of rounds, 0 or more; the same as those of the budget.

    Raises:
        InvalidArgument: a value out of range, or rounds that do not fit into the steps.

    >>> Schedule(steps=100, first_round=40, interval=20, rounds=2).spans
    [(0, 40), (40, 60), (60, 100)]
    >>> Schedule(steps=100, first_round=0, interval=20, rounds=2).spans
    [(0, 20), (20, 100)]
    """

    steps: int
    first_round: int
    interval: int
    rounds: int

    def __post_init__(self) -> None:
        for argument, least in (("steps", 1), ("first_round", 0), ("interval", 1), ("rounds", 0)):
            require_integer("Schedule", argument, getattr(self, argument), least)
        last = self.first_round + (self.rounds - 1) * self.interval
        if self.rounds and last >= self.steps:
            raise InvalidArgument(
                "Schedule",
                "rounds",
                f"must be smaller: round {self.rounds} would follow step {last}, but the run has {self.steps} steps "
                "and must train on its labels; reduce rounds or interval, or increase steps",
            )

    @property
    def spans(self) -> list[tuple[int, int]]:
        """``(start, stop)`` steps of each stage; stage n trains on the first n + :attr:`initial_rounds` rounds."""
        cuts = [self.first_round + number * self.interval for number in range(self.initial_rounds, self.rounds)]
        return list(zip([0, *cuts], [*cuts, self.steps], strict=True))

    @property
    def initial_rounds(self) -> int:
        """Number of rounds before the first step: 1 or 0."""
        return int(self.first_round == 0 and self.rounds > 0)
