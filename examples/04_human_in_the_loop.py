"""People answer: the run writes its queries into a folder, returns, and resumes once the answers are there.

Here the "people" paint from the ground truth. Run it with: python examples/04_human_in_the_loop.py [FOLDER]
"""

import sys
from pathlib import Path

from PIL import Image
from pytorch_lightning import Trainer

from ripu_lightning import ActiveDataModule, ActiveLearningLoop, Budget, FileAnnotator, RunCheckpoint, Schedule
from ripu_lightning import SegmentationModule, get_strategy
from ripu_lightning.data import Streets
from ripu_lightning.losses import SourceCrossEntropy, TargetCrossEntropy, WeightedLosses
from ripu_lightning.networks import SmallNet

DOMAINS = ("source", "train"), ("target", "train"), ("target", "val")
SOURCE, TARGET, VAL = (Streets(domain, split, length=8, height=64, width=128) for domain, split in DOMAINS)


def fit(folder: Path) -> ActiveLearningLoop:
    """Start or resume the run; returns when it is complete, or waits for answers."""
    loop = ActiveLearningLoop(
        get_strategy("ripu_point", radius=8),
        Budget(clicks=10, rounds=2),
        FileAnnotator(TARGET, folder / "annotation"),
        Schedule(steps=30, first_round=10, interval=10, rounds=2),
        folder / "labels",
    )
    checkpoint = RunCheckpoint(folder / "checkpoints")
    terms = {"source": SourceCrossEntropy(), "target": TargetCrossEntropy()}
    losses = WeightedLosses(terms, {"source": 1.0, "target": 1.0})
    module = SegmentationModule(SmallNet(len(TARGET.classes)), losses, TARGET.classes.names)
    data = ActiveDataModule(SOURCE, TARGET, VAL, batch_size=4)
    trainer = Trainer(**loop.trainer_arguments(), callbacks=[loop, checkpoint], default_root_dir=folder, logger=False)
    last = checkpoint.path if checkpoint.path.exists() else None
    trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    return loop


def paint(answers: Path) -> None:
    """What people do: a PNG of class ids for each image with queries; only the queried pixels are read."""
    for index, image_id in enumerate(TARGET.ids):
        Image.fromarray(TARGET.label(index)).save(answers / f"{image_id}.png")


def main(folder: str = "runs/human_in_the_loop") -> None:
    while (loop := fit(Path(folder))).pending:
        print(loop.pending)
        paint(sorted(Path(folder, "annotation").glob("round_*"))[-1] / "answers")
    print([(record.round, record.queries, round(record.miou, 3)) for record in loop.history])


if __name__ == "__main__":
    main(*sys.argv[1:])
