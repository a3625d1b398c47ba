"""The ledger, counted from the label store and the truth: interruptions of a run do not change it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import IGNORE, SegmentationDataset
from ripu_lightning.data.resizing import resize_mask
from ripu_lightning.data.statistics import load_statistics, on_boundary
from ripu_lightning.data.workers import work_through
from ripu_lightning.labels import NOT_QUERIED, Answers, LabelStore, Round
from ripu_lightning.report.ledger import Ledger, Pool, RoundCost

Positions = npt.NDArray[np.int64]


def make_ledger(
    datamodule: ActiveDataModule, store: LabelStore, region_type: str, known: Mapping[str, RoundCost] | None = None
) -> Ledger:
    """The ledger of all active rounds; those ``known`` (by ``sha256``) are not counted again.

    Only images with a query are opened; the pool's figures are read once and kept in the cache.

    Raises:
        UserError: a label, or a file of the store, that cannot be used.
    """
    target, known = datamodule.target, known or {}
    pool = None
    if target.has_labels:
        found = load_statistics(target, datamodule.cache, datamodule.num_workers)
        pool = Pool(found.pixels.sum(axis=0).tolist(), int(found.ignored.sum()), int(found.boundary.sum()))
    return Ledger(
        classes=list(target.classes.names),
        colors=[list(color) for color in target.classes.colors],
        region_type=region_type,
        images=len(target),
        pixels=sum(height * width for height, width in map(target.size, range(len(target)))),
        pool=pool,
        rounds=[known.get(entry.sha256) or _count_round(datamodule, store, entry) for entry in store.rounds],
    )


def count_clicks(answers: Answers) -> int:
    """Clicks of an image's answers, see :class:`~ripu_lightning.report.ledger.RoundCost`."""
    met = np.zeros((len(answers), IGNORE + 1), dtype=np.bool_)
    met[np.repeat(np.arange(len(answers)), answers.boxes[:, 2] * answers.boxes[:, 3]), answers.values] = True
    met[:, NOT_QUERIED] = False
    return int(np.count_nonzero(met))


def resized_positions(length: int, wanted: int) -> Positions:
    """Positions along one side of a mask that its resize from ``length`` to ``wanted`` pixels takes.

    >>> resized_positions(5, 3), resized_positions(300, 2)
    (array([0, 2, 4]), array([ 75, 225]))
    """
    if length == wanted:
        return np.arange(length)
    # By the resize itself, which knows bytes only: each of a position's bytes on its own.
    taken = np.zeros(wanted, dtype=np.int64)
    for shift in (0, 8, 16, 24):
        plane = (np.arange(length) >> shift & 255).astype(np.uint8)
        taken |= resize_mask(plane[:, None], (wanted, 1))[:, 0].astype(np.int64) << shift
    return taken


@dataclass(frozen=True)
class _Job:
    """Counts one image of a round; it may travel to a worker process."""

    dataset: SegmentationDataset
    store: LabelStore
    number: int
    training: tuple[int, int] | None

    def __call__(self, index: int) -> list[int]:
        """New image or not, clicks, kept and trained pixels, those on a boundary, then the pixels of each value."""
        image_id, size = self.dataset.ids[index], self.dataset.size(index)
        answers = self.store.answers(image_id, self.number)
        assert answers is not None
        new = all(self.store.answers(image_id, earlier) is None for earlier in range(1, self.number))
        answered = (self.store.query_round(image_id) == self.number) & (self.store.mask(image_id) != IGNORE)
        rows, columns = map(resized_positions, size, self.training or size)
        kept = answered[np.unique(rows)][:, np.unique(columns)].sum()
        boundary = on_boundary(self.dataset.label(index)) & answered if self.dataset.has_labels else np.zeros(0)
        counts = [new, count_clicks(answers), kept, answered[rows][:, columns].sum(), boundary.sum()]
        return [*map(int, counts), *np.bincount(answers.values, minlength=IGNORE + 1).tolist()]


def _count_round(datamodule: ActiveDataModule, store: LabelStore, entry: Round) -> RoundCost:
    target = datamodule.target
    images = {each for each in store.queried_images if store.answers(each, entry.number) is not None}
    indices = [index for index, image_id in enumerate(target.ids) if image_id in images]
    job = _Job(target, store, entry.number, datamodule.target_size)
    rows = list(work_through(job, indices, datamodule.num_workers, f"round {entry.number}: ledger")) if indices else []
    sums = np.array(rows, dtype=np.int64).reshape(len(rows), 5 + IGNORE + 1).sum(axis=0).tolist()
    new, clicks, kept, trained, boundary, *values = sums
    return RoundCost(
        number=entry.number,
        sha256=entry.sha256,
        queries=entry.queries,
        clicks=clicks,
        images=len(images),
        new_images=new,
        pixels=entry.pixels,
        void=entry.void,
        classes=values[: len(target.classes)],
        kept=kept,
        trained=trained,
        boundary=boundary if target.has_labels else None,
    )
