"""A run of many rounds holds neither more memory nor more open files than one of a few."""

import json
import os
import sys
from pathlib import Path

import forked

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROUNDS, IMAGES = 12, 100
MARGIN = 4e6  # bytes; one map that is kept of each image of 48 x 64 pixels would be 1.2 MB a round
RUN = f"""
import json, sys
from pathlib import Path
import torch
import long_run

torch.set_num_threads(1)
long_run.HEIGHT, long_run.WIDTH = 48, 64
usages = long_run.long_run(Path(sys.argv[1]), {IMAGES}, {ROUNDS}, picks=5, workers=1)
print(json.dumps([[usage.memory, usage.workers, usage.files] for usage in usages]))
"""


def test_memory_and_open_files_stay_flat(tmp_path: Path) -> None:
    path = os.pathsep.join([str(BENCHMARKS), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = forked.run([sys.executable, "-c", RUN, str(tmp_path)], env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    usages = json.loads(done.stdout.splitlines()[-1])
    assert len(usages) == ROUNDS + 1
    fourth, last = usages[3], usages[ROUNDS - 1]
    assert last[0] - fourth[0] < MARGIN
    assert last[1] - fourth[1] < MARGIN
    assert fourth[1] > 0
    assert last[2] == fourth[2]
