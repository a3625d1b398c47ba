"""What every rank must hold alike: the teacher of self-training, and the network that scores the pool."""

import os
import sys
from pathlib import Path

import pytest
import torch

import forked

RANKS = """
import sys
from pathlib import Path
import torch
from pytorch_lightning import Callback
import tiny
from test_self_training import Watch, module
from ripu_lightning.acquisition import Budget, WholeImage, get_strategy
from ripu_lightning.training import loop

folder, options, images = Path(sys.argv[1]), eval(sys.argv[2]), int(sys.argv[3])
watch, scored, estimated = Watch(), [], []
pick = loop.select_queries

def noting(passes, *arguments):
    assert passes.module.target_statistics.current
    estimated.append({name: value.clone() for name, value in passes.module.target_statistics.named_buffers()})
    queries = pick(passes, *arguments)
    scored.append({name: value.clone() for name, value in passes.module.network.state_dict().items()})
    return queries

loop.select_queries = noting
data = tiny.datamodule()
active = tiny.loop(folder / "labels", data)
if images:
    active.strategy = get_strategy("random", region_type=WholeImage())
    active.budget = Budget(images=images, per="pool", rounds=2)
trainer = tiny.trainer(folder, active, watch, devices=2, strategy="ddp_fork", **options)

class Keep(Callback):
    def on_fit_end(self, trainer, pl_module):
        found = {"students": watch.students, "teachers": watch.teachers, "scored": scored, "estimated": estimated}
        torch.save(found, folder / f"rank_{trainer.global_rank}.pt")

trainer.callbacks.append(Keep())
trainer.fit(tiny.module(losses=module().losses, batchnorm="target", average_decay=0.5), datamodule=data)
"""


@pytest.mark.parametrize(
    ("options", "images"),
    [({}, 0), ({"limit_val_batches": 0}, 4)],
    ids=["squares", "whole images, which have a pass of their own, and no validation"],
)
def test_both_ranks_hold_the_same_teacher_and_score_with_the_same_network(
    tmp_path: Path, options: dict, images: int
) -> None:
    """BatchNorm learns here, and each rank sees images of its own; only a forward pass of DDP's evens that out."""
    # Forked from a process of its own: threads that earlier tests left here might hold locks.
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RANKS, str(tmp_path), repr(options), str(images)]
    done = forked.run(command, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (len(one["teachers"]), len(one["scored"])) == (8, 2)
    for ours, theirs in zip(one["scored"], two["scored"], strict=True):
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    for ours, theirs in zip(one["estimated"], two["estimated"], strict=True):
        assert len(ours) == 2
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    weights = ("backbone.0.weight", "backbone.1.weight", "head.bias")
    for name in weights:
        average = one["students"][0][name]
        for student, ours, theirs in zip(one["students"][1:], one["teachers"], two["teachers"], strict=True):
            average = 0.6 * average + 0.4 * student[name]
            torch.testing.assert_close(ours[name], average)
            assert torch.equal(ours[name], theirs[name])
