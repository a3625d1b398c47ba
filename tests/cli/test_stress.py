"""The short form of the stress script: killed runs come back as if nothing had been, on three ranks too."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "stress.py"


def test_killed_runs_come_back_as_if_nothing_had_been(tmp_path: Path) -> None:
    options = ["--kills", "1", "--ranks", "1", "3", "--seed", "3", "--variants", "ripu", "--folder", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "0 faults" in done.stdout
