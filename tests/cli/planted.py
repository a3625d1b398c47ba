"""``ripu-train`` with one fault planted in it: ``python planted.py FAULT override ...``. Started by the tests."""

import functools
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import get_worker_info

from ripu_lightning.annotation import GroundTruth
from ripu_lightning.data.transforms import Transform
from ripu_lightning.training.checkpoints import WholeCheckpoints
from ripu_lightning.training.module import SegmentationModule
from ripu_lightning.training.passes import Passes

RANK = int(os.environ.get("LOCAL_RANK", 0))


def before(owner: type, name: str, call: int, act: Callable[[], None]) -> None:
    """Have ``act`` happen before the ``call``-th call of a method."""
    real, calls = getattr(owner, name), iter(range(1, 10**6))

    @functools.wraps(real)
    def planted(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            act()
        return real(*arguments, **options)

    setattr(owner, name, planted)


def rank_1_dies() -> None:
    if RANK == 1:
        before(SegmentationModule, "training_step", 6, lambda: os.kill(os.getpid(), signal.SIGKILL))


def rank_1_dies_scoring() -> None:
    if RANK == 1:
        before(Passes, "image", 1, lambda: os.kill(os.getpid(), signal.SIGKILL))


def rank_1_is_slow() -> None:
    if RANK == 1:
        before(Passes, "image", 1, lambda: Path("slow").touch() or time.sleep(600))


def worker_is_killed() -> None:
    def act() -> None:
        if get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)

    before(Transform, "__call__", 1, act)


def data_vanish() -> None:
    root = next(item.partition("=")[2] for item in sys.argv if item.startswith("data.target.root="))
    before(SegmentationModule, "training_step", 3, lambda: shutil.rmtree(Path(root) / "images"))


def nobody_answers() -> None:
    """Whoever asks the oracle fails."""
    before(GroundTruth, "answer", 1, lambda: sys.exit("the oracle was asked"))


def disk_is_full() -> None:
    """From the second checkpoint on nothing of its size can be written any more."""
    limits = (100_000, resource.RLIM_INFINITY)
    before(WholeCheckpoints, "save_checkpoint", 2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))


if __name__ == "__main__":
    from ripu_lightning.cli.train import main

    fault = os.environ.setdefault("PLANTED", sys.argv.pop(1) if "PLANTED" not in os.environ else "")
    globals()[fault]()
    main()
