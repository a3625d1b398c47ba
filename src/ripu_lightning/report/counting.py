"""The ledger from the label store and the truth: the same whatever way a run came there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import IGNORE, SegmentationDataset
from ripu_lightning.data.resizing import resize_mask
from ripu_lightning.data.statistics import load_statistics, on_boundary
from ripu_lightning.data.workers import work_through
from ripu_lightning.labels import NOT_ASKED, Answers, LabelStore, Round
from ripu_lightning.labels.answers import box_sizes
from ripu_lightning.labels.painting import paint_mask
from ripu_lightning.report.ledger import Ledger, Pool, RoundCost

Positions = npt.NDArray[np.int64]


def make_ledger(
    datamodule: ActiveDataModule, store: LabelStore, geometry: str, known: Mapping[str, RoundCost] | None = None
) -> Ledger:
    """The ledger of all rounds in force.

    Only images that a round asked about are opened, and those alone whose round is not known; the pool's own figures
    are read once and kept in the cache.

    Args:
        datamodule: of the run; its target has labels where the run may read them.
        store: of the run.
        geometry: of the picks.
        known: what was counted before, by ``sha256`` of the round.

    Raises:
        UserError: a label, or a file of the store, that can not be used.
    """
    target, known = datamodule.target, known or {}
    costs = [known.get(entry.sha256) or _count_round(datamodule, store, entry) for entry in store.rounds]
    return Ledger(
        classes=list(target.classes.names),
        colors=[list(color) for color in target.classes.colors],
        geometry=geometry,
        images=len(target),
        pixels=sum(height * width for height, width in map(target.size, range(len(target)))),
        pool=_count_pool(datamodule) if target.has_labels else None,
        rounds=costs,
    )


def count_clicks(answers: Answers) -> int:
    """Clicks of some picks, see :class:`~ripu_lightning.report.ledger.RoundCost`."""
    met = np.zeros((len(answers), IGNORE + 1), dtype=np.bool_)
    met[np.repeat(np.arange(len(answers)), box_sizes(answers.boxes)), answers.values] = True
    met[:, NOT_ASKED] = False
    return int(np.count_nonzero(met))


def looked_at(size: tuple[int, int], training: tuple[int, int] | None) -> tuple[Positions, Positions]:
    """Rows and columns of a mask of ``size`` that its resize to ``training`` takes, one for each row and column there.

    >>> looked_at((5, 300), (3, 2))
    (array([0, 2, 4]), array([ 75, 225]))
    """
    target = training or size
    return _taken(size[0], target[0]), _taken(size[1], target[1])


def _taken(length: int, wanted: int) -> Positions:
    if length == wanted:
        return np.arange(length)
    # By the resize itself, which knows bytes only: each of a position's bytes on its own.
    taken = np.zeros(wanted, dtype=np.int64)
    for shift in (0, 8, 16, 24):
        plane = (np.arange(length) >> shift & 255).astype(np.uint8)
        taken |= resize_mask(plane[:, None], (wanted, 1))[:, 0].astype(np.int64) << shift
    return taken


def _count_pool(datamodule: ActiveDataModule) -> Pool:
    found = load_statistics(datamodule.target, datamodule.cache, datamodule.num_workers)
    return Pool(found.pixels.sum(axis=0).tolist(), int(found.ignored.sum()), int(found.boundary.sum()))


@dataclass(frozen=True)
class _Job:
    """Counts one image of a round; it may travel to a worker process."""

    dataset: SegmentationDataset
    store: LabelStore
    entry: Round
    training: tuple[int, int] | None

    def __call__(self, index: int) -> list[int]:
        """Clicks, kept and trained pixels, those on a boundary, then the pixels of each value."""
        answers, size = self.store.answers(self.dataset.ids[index], self.entry.number), self.dataset.size(index)
        assert answers is not None
        answered = paint_mask(size, [(self.entry, answers)]) != IGNORE
        rows, columns = looked_at(size, self.training)
        taken = answered[np.unique(rows)][:, np.unique(columns)]
        boundary = on_boundary(self.dataset.label(index)) & answered if self.dataset.has_labels else np.zeros(0)
        counts = [count_clicks(answers), taken.sum(), answered[rows][:, columns].sum(), boundary.sum()]
        return [*map(int, counts), *np.bincount(answers.values, minlength=IGNORE + 1).tolist()]


def _count_round(datamodule: ActiveDataModule, store: LabelStore, entry: Round) -> RoundCost:
    target = datamodule.target
    file = store.file(entry.number)
    asked = set() if file is None else set(file.images)
    indices = [index for index, image_id in enumerate(target.ids) if image_id in asked]
    job = _Job(target, store, entry, datamodule.target_size)
    title = f"round {entry.number}: ledger"
    rows = list(work_through(job, indices, datamodule.num_workers, title)) if indices else []
    clicks, kept, trained, boundary, *values = _sums(rows, 4 + IGNORE + 1)
    return RoundCost(
        number=entry.number,
        sha256=entry.sha256,
        queries=entry.queries,
        clicks=clicks,
        images=len(asked),
        new_images=len(asked.difference(store.touched_through(entry.number - 1))),
        pixels=entry.pixels,
        void=entry.void,
        classes=values[: len(target.classes)],
        kept=kept,
        trained=trained,
        boundary=boundary if target.has_labels else None,
    )


def _sums(rows: Sequence[Sequence[int]], width: int) -> list[int]:
    sums: list[int] = np.array(rows, dtype=np.int64).reshape(len(rows), width).sum(axis=0).tolist()
    return sums
