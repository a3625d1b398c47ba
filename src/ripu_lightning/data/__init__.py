"""Data: data sets, class maps, pools and the DataModule."""

from ripu_lightning.class_map import ClassMap, load_class_map
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import IGNORE, SegmentationDataset
from ripu_lightning.data.folder import FolderDataset
from ripu_lightning.data.pools import EvalBatch, TrainBatch
from ripu_lightning.data.streets import Streets
from ripu_lightning.data.wrapped import wrap_dataset

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
