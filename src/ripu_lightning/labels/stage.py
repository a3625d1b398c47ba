"""One stage, the training between two rounds: its steps, and the labels that it trains on."""

from dataclasses import dataclass
from functools import cached_property

from ripu_lightning.errors import InvalidArgument, require_integer
from ripu_lightning.labels.answers import UInt8Array
from ripu_lightning.labels.store import LabelStore


class QueriedLabels:
    """The labels of the first rounds of a label store, for reading; picklable, so that a loader's workers can read.

    Later rounds of the store stay invisible: a resumed run may find more rounds in the store than it has trained on.

    Args:
        store: where the labels are; None where nothing was queried.
        rounds: number of active rounds that count, from the first; 0 for none.

    Raises:
        InvalidArgument: ``rounds`` is negative, or no store was given to read them from.
    """

    def __init__(self, store: LabelStore | None, rounds: int) -> None:
        require_integer("QueriedLabels", "rounds", rounds)
        if store is None and rounds:
            raise InvalidArgument("QueriedLabels", "store", f"is None; give the store that holds the {rounds} rounds")
        self.store, self.rounds = store, rounds

    @cached_property
    def image_ids(self) -> tuple[str, ...]:
        """Ids of the images with at least one query, in the order in which they were first queried."""
        return self.store.queried_images_through(self.rounds) if self.store is not None and self.rounds else ()

    def mask(self, image_id: str) -> UInt8Array:
        """Labels ``(H, W)`` uint8 of one image: class index where it was answered, 255 elsewhere.

        Raises:
            ValueError: the image is unknown to the store.
        """
        if self.store is None:
            raise ValueError(f"{image_id}: there is no label store")
        return self.store.mask(image_id, self.rounds)


@dataclass(frozen=True)
class Stage:
    """The training between two rounds.

    Args:
        number: 0 for the first stage of a run.
        start: first optimiser step.
        stop: one past the last optimiser step.
        labels: what the stage trains on.

    Raises:
        InvalidArgument: a number out of range.
    """

    number: int
    start: int
    stop: int
    labels: QueriedLabels

    def __post_init__(self) -> None:
        require_integer("Stage", "number", self.number)
        require_integer("Stage", "start", self.start)
        require_integer("Stage", "stop", self.stop, least=self.start + 1)
