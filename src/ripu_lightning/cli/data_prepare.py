"""``ripu-data prepare``: write images at the network's size, and class statistics, for training."""

from omegaconf import DictConfig

from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.memory import Kind
from ripu_lightning.data.prepared import PreparedFolder, parse_size
from ripu_lightning.data.statistics import load_statistics
from ripu_lightning.data.workers import all_cores
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.experiment.early_checks import build_dataset


def prepare(config: DictConfig, names: list[str]) -> None:
    """Prepare parts of ``config.data``; complete files stay.

    The target's labels are not read: masks of queried labels change with every round, and evaluation uses labels at
    their own size.

    Raises:
        UserError: data without fingerprint, files that cannot be used, or a cache that cannot be written.
    """
    cache = DataCache(config.data.get("cache"))
    if cache.folder is None:
        raise InvalidArgument("ActiveDataModule", "cache", "is None; prepare needs a folder to write to")
    for name in names:
        _prepare_part(config, name, cache)


def _prepare_part(config: DictConfig, name: str, cache: DataCache) -> None:
    key = "source_size" if name == "source" else "target_size"
    size = parse_size(key, config.data[key])
    dataset: SegmentationDataset = build_dataset(config, name)
    place = cache.place(dataset)
    if place is None:
        raise UserError(
            f"data.{name}: its data set has no fingerprint, so nothing can be prepared; leave it out with only=..."
        )
    with_labels = name == "source" and dataset.has_labels
    if with_labels:
        load_statistics(dataset, cache, all_cores())
    if size is None:
        return print(f"{name}: data.{key} is not set, so training reads the images at their own size")
    kinds: tuple[Kind, ...] = ("images", "labels") if with_labels else ("images",)
    for kind in kinds:
        folder = PreparedFolder(dataset, kind, size, place)
        written = folder.prepare(all_cores(), f"{name}: preparing {kind}")
        done = f"{written} of {len(dataset)} written" if written else f"all {len(dataset)} exist, nothing to do"
        print(f"{name}: {kind} at {size[0]}x{size[1]} in {folder.folder}: {done}")
    for note in dataset.notes() if with_labels else []:
        print(f"note: {note}")
    cache.mark_checked(dataset, with_labels)  # each image was decoded, and so was each label where there are statistics
