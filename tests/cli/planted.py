"""``ripu-train`` with one fault planted in it: ``python planted.py FAULT override ...``. Started by the tests."""

import os
import resource
import shutil
import sys
import time
from pathlib import Path

from torch.utils.data import get_worker_info

sys.path.append(str(Path(__file__).parents[1]))
from faults import die, trap

RANK = int(os.environ.get("LOCAL_RANK", 0))
STEP = "ripu_lightning.training.module:SegmentationModule.training_step"
SCORE = "ripu_lightning.training.pool_inference:PoolInference.image"


def rank_1_dies() -> None:
    if RANK == 1:
        trap(STEP, 6, die)


def rank_1_dies_scoring() -> None:
    if RANK == 1:
        trap(SCORE, 1, die)


def rank_1_is_slow() -> None:
    if RANK == 1:
        trap(SCORE, 1, lambda: Path("slow").touch() or time.sleep(600))


def worker_is_killed() -> None:
    def act() -> None:
        if get_worker_info():
            die()

    trap("ripu_lightning.data.transforms:Transform.__call__", 1, act, workers=True)


def data_vanish() -> None:
    root = next(item.partition("=")[2] for item in sys.argv if item.startswith("data.target.root="))
    trap(STEP, 3, lambda: shutil.rmtree(Path(root) / "images"))


def nobody_answers() -> None:
    """Whoever asks the oracle fails."""
    trap("ripu_lightning.annotation:GroundTruth.answer", 1, lambda: sys.exit("the oracle was asked"))


def disk_is_full() -> None:
    """From the second checkpoint on nothing of its size can be written any more."""
    limits = (100_000, resource.RLIM_INFINITY)
    save = "ripu_lightning.training.checkpoint_io:AtomicCheckpointIO.save_checkpoint"
    trap(save, 2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))


if __name__ == "__main__":
    from ripu_lightning.cli.train import main

    fault = os.environ.setdefault("PLANTED", sys.argv.pop(1) if "PLANTED" not in os.environ else "")
    globals()[fault]()
    main()
