"""Your own LightningDataModule in the active-learning loop: four members, and the loaders that Lightning asks for.

Run it with: python examples/02_own_datamodule.py [FOLDER]
"""

import sys
from functools import partial

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader, RandomSampler, default_collate

from ripu_lightning import ActiveLearningLoop, Budget, GroundTruth, Schedule, SegmentationModule, get_strategy
from ripu_lightning.data import EvalBatch, Streets
from ripu_lightning.losses import TargetCrossEntropy, WeightedLosses
from ripu_lightning.networks import SmallNet


class MyData(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.val = (Streets("target", split, 12, height=64, width=128) for split in ("train", "val"))
        self.class_names = self.pool.classes.names
        self.image_sizes = dict.fromkeys(self.pool.ids, (64, 128))  # id -> (H, W), in the order of the pool

    def begin_stage(self, stage) -> None:
        self.labels = stage.labels  # masks of all rounds so far; 255 where there is no label

    def pool_dataloader(self) -> DataLoader:  # each image once, in order
        return DataLoader([{"image": image_of(self.pool, i), "id": name} for i, name in enumerate(self.pool.ids)], 4)

    def train_dataloader(self) -> DataLoader:  # at least as many batches as the stage has steps
        masks = enumerate(torch.from_numpy(self.labels.mask(name)) for name in self.pool.ids)
        samples = [{"image": image_of(self.pool, i), "label": mask} for i, mask in masks]
        draws = RandomSampler(samples, replacement=True, num_samples=1000)
        return DataLoader(samples, 4, sampler=draws, collate_fn=lambda batch: {"labelled": default_collate(batch)})

    def val_dataloader(self) -> DataLoader:  # what SegmentationModule evaluates: whole images, masks at their own size
        labels = [torch.from_numpy(self.val.label(i)) for i in range(12)]
        rows = [(image_of(self.val, i)[None], [i], [self.val.ids[i]], [(64, 128)], [labels[i]], []) for i in range(12)]
        return DataLoader([EvalBatch(*row) for row in rows], batch_size=None)


def image_of(dataset: Streets, index: int) -> torch.Tensor:
    return torch.from_numpy(dataset.image(index)).permute(2, 0, 1) / 255


def main(folder: str = "runs/own_datamodule") -> None:
    data, losses = MyData(), WeightedLosses({"labels": TargetCrossEntropy()}, {"labels": 1.0})
    network, adam = SmallNet(len(data.class_names)), partial(torch.optim.AdamW, lr=3e-3)
    module = SegmentationModule(network, losses, data.class_names, optimizer=adam)
    schedule, budget = Schedule(steps=40, first_round=0, interval=20, rounds=2), Budget(ratio=0.1, rounds=2)
    loop = ActiveLearningLoop(get_strategy("margin"), budget, GroundTruth(data.pool), schedule, f"{folder}/labels")
    Trainer(**loop.trainer_arguments(), callbacks=[loop], default_root_dir=folder, logger=False).fit(module, data)
    print([(f"{record.share:.1%}", round(record.miou, 3)) for record in loop.history])


if __name__ == "__main__":
    main(*sys.argv[1:])
