"""Data: data sets, class maps, pools and the DataModule."""

from typing import TYPE_CHECKING

from ripu_lightning.class_map import ClassMap, load_class_map
from ripu_lightning.data.dataset import IGNORE, SegmentationDataset
from ripu_lightning.lazy import lazy_names

if TYPE_CHECKING:
    from ripu_lightning.data.datamodule import ActiveDataModule
    from ripu_lightning.data.folder import FolderDataset
    from ripu_lightning.data.pools import EvalBatch, TrainBatch
    from ripu_lightning.data.streets import Streets
    from ripu_lightning.data.wrapped import wrap_dataset

_HOMES = {
    "ActiveDataModule": "datamodule",
    "EvalBatch": "pools",
    "FolderDataset": "folder",
    "Streets": "streets",
    "TrainBatch": "pools",
    "wrap_dataset": "wrapped",
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)

__all__ = [
    "IGNORE",
    "ActiveDataModule",
    "ClassMap",
    "EvalBatch",
    "FolderDataset",
    "SegmentationDataset",
    "Streets",
    "TrainBatch",
    "load_class_map",
    "wrap_dataset",
]
