"""``ripu-data prepare``: write pictures at the network's size, and class statistics, for training to read."""

from omegaconf import DictConfig

from ripu_lightning.cli.build import build
from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.prepared import Kind, PreparedFolder, parse_size
from ripu_lightning.data.statistics import load_statistics
from ripu_lightning.data.workers import all_cores
from ripu_lightning.errors import UserError


def prepare(config: DictConfig, names: list[str]) -> None:
    """Prepare parts of ``config.data``; what is there already stays.

    The target's labels are not read: masks of bought labels change with every round, and evaluation takes labels as
    they are.

    Raises:
        UserError: data without fingerprint, files that can not be used, or a cache that can not be written.
    """
    cache = DataCache(config.data.get("cache"))
    if cache.folder is None:
        raise UserError("data.cache has no value; prepare needs a folder to write to")
    for name in names:
        _prepare_part(config, name, cache)


def _prepare_part(config: DictConfig, name: str, cache: DataCache) -> None:
    key = "source_size" if name == "source" else "target_size"
    size = parse_size(key, config.data[key])
    dataset: SegmentationDataset = build(config, f"data.{name}")
    place = cache.place(dataset)
    if place is None:
        raise UserError(
            f"data.{name}: its data set has no fingerprint, so nothing can be kept: leave it out with only=..."
        )
    with_labels = name == "source" and dataset.has_labels
    if with_labels:
        load_statistics(dataset, cache, all_cores())
    if size is None:
        return print(f"{name}: data.{key} is not set, so training takes the pictures as they are")
    kinds: tuple[Kind, ...] = ("images", "labels") if with_labels else ("images",)
    for kind in kinds:
        folder = PreparedFolder(dataset, kind, size, place)
        written = folder.prepare(all_cores(), f"{name}: preparing {kind}")
        done = f"{written} of {len(dataset)} written" if written else f"all {len(dataset)} were there, nothing to do"
        print(f"{name}: {kind} at {size[0]}x{size[1]} in {folder.folder}: {done}")
    for note in dataset.notes() if with_labels else []:
        print(f"note: {note}")
    cache.mark_checked(dataset, with_labels)  # each image was decoded, and so was each label where there are statistics
