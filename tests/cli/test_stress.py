"""The short form of the stress script: killed runs come back as if nothing had been, on three ranks too."""

import sys
from pathlib import Path

import pytest

import forked

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
from stress import Stress

pytestmark = pytest.mark.process


def test_killed_runs_come_back_as_if_nothing_had_been(tmp_path: Path) -> None:
    stress = Stress(tmp_path, 3, ["data.num_workers=0"], forked.Popen)
    outcome = stress.run(2, [("ripu", 1), ("ripu", 3)], 1)
    assert not outcome.faults, str(outcome)
    assert outcome.kills.total() >= 2
    assert outcome.runs == 2
