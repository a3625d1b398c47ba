"""What ranks say to each other, as real processes: values arrive, and whoever is missing is named in time."""

import os
import sys
from pathlib import Path

import pytest

import forked

RANKS = """
import os, sys, time
from datetime import timedelta
from types import SimpleNamespace
import torch.distributed as dist
from ripu_lightning.errors import UserError
from ripu_lightning.training.ranks import Ranks

fault, port = sys.argv[1:]
children = []
for rank in (2, 1):
    if not os.fork():
        break
else:
    rank = 0
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
dist.init_process_group("gloo", rank=rank, world_size=3)
ranks = Ranks(SimpleNamespace(global_rank=rank, world_size=3), timedelta(seconds=6))
assert ranks.gather([rank, "x"], "test") == ([[0, "x"], [1, "x"], [2, "x"]] if rank == 0 else [])
assert ranks.share({"of": rank}, "test") == {"of": 0}
if rank == 2:
    if fault == "dies":
        os._exit(0)
    time.sleep(60 if fault == "hangs" else 0)
try:
    ranks.gather([rank], "the last one")
except UserError as error:
    print(f"{rank}: {error}", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("fault", ["", "dies", "hangs"])
def test_values_arrive_and_missing_ranks_are_named(tmp_path: Path, fault: str) -> None:
    port = str(21000 + os.getpid() % 8000 + ["", "dies", "hangs"].index(fault))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "log.txt"
    with log.open("w") as file:  # and not a pipe, which the rank that hangs would keep open
        forked.run(
            [sys.executable, "-c", RANKS, fault, port],
            env=environment,
            stdout=file,
            stderr=None,
            timeout=60,
            check=True,
        )
    said = log.read_text()
    if fault:
        assert "0: rank 2 ended or did not answer within 6 seconds (the last one)" in said
        assert said.count("\n") <= 2
    else:
        assert said == ""
