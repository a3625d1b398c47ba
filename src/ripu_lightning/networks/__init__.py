"""Networks: anything that maps ``(B, 3, H, W)`` to :class:`SegmentationOutput`; see :class:`SegmentationNetwork`."""

from ripu_lightning.networks.batchnorm import set_batchnorm_eval
from ripu_lightning.networks.contract import SegmentationNetwork, SegmentationOutput
from ripu_lightning.networks.deeplab import DeepLabV2, DeepLabV3Plus
from ripu_lightning.networks.fpn import FPN
from ripu_lightning.networks.segformer import SegFormer
from ripu_lightning.networks.small import SmallNet
from ripu_lightning.networks.smp import SegmentationModelsPytorch

__all__ = [
    "FPN",
    "DeepLabV2",
    "DeepLabV3Plus",
    "SegFormer",
    "SegmentationModelsPytorch",
    "SegmentationNetwork",
    "SegmentationOutput",
    "SmallNet",
    "set_batchnorm_eval",
]
