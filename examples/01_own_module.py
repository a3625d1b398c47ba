"""Your own LightningModule in the active-learning loop, on the embedded domain pair.

Run it with: python examples/01_own_module.py [FOLDER]
"""

import sys

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchmetrics.classification import MulticlassJaccardIndex

from ripu_lightning import ActiveDataModule, ActiveLearningLoop, Budget, GroundTruth, Schedule, get_strategy
from ripu_lightning.data import Streets
from ripu_lightning.losses.functional import cross_entropy


class MyModule(LightningModule):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 32, 5, stride=2), nn.ReLU(), nn.Conv2d(32, classes, 3))
        self.iou = MulticlassJaccardIndex(classes, ignore_index=255)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)  # logits (B, C, h, w), at any size

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        parts = batch["source"], batch["labelled"]  # 255 where there is no label
        sized = [(interpolate(self(part["image"]), part["label"].shape[1:]), part["label"]) for part in parts]
        return sum(cross_entropy(logits, label) for logits, label in sized)

    def validation_step(self, batch, batch_idx: int) -> None:
        for image, label in zip(batch.image, batch.labels, strict=True):
            self.iou(interpolate(self(image[None]), label.shape), label[None].long())
        self.log("val/miou", self.iou)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(folder: str = "runs/own_module") -> None:
    size = {"height": 64, "width": 128}
    source, target = (Streets(domain, "train", length=16, **size) for domain in ("source", "target"))
    data = ActiveDataModule(source, target, Streets("target", "val", length=8, **size), batch_size=4)
    loop = ActiveLearningLoop(
        get_strategy("ripu"),
        Budget(ratio=0.022, rounds=2),
        GroundTruth(target),  # the oracle; FileAnnotator asks people
        Schedule(steps=60, first_round=20, interval=20, rounds=2),
        f"{folder}/labels",
    )
    trainer = Trainer(**loop.trainer_arguments(), callbacks=[loop], default_root_dir=folder, logger=False)
    trainer.fit(MyModule(len(target.classes)), datamodule=data)
    print([f"{record.share:.2%} of the pixels labelled: mIoU {record.miou:.3f}" for record in loop.history])


if __name__ == "__main__":
    main(*sys.argv[1:])
