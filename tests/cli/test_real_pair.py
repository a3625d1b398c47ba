"""The real pair, rendered roads to CamVid, by config alone; needs its folder, which RIPU_DATA names."""

import csv
import os
from pathlib import Path

import pytest
from in_process import call_inside

from ripu_lightning.labels import LabelStore

EACH = 12
"""Images of each split that are used."""
DATA = Path(os.environ.get("RIPU_DATA", "../shared/data")).resolve()


def part(folder: Path) -> None:
    """Links to a few images of each split, and to their labels."""
    for split in [path for path in DATA.glob("*/images/*") if path.is_dir()]:
        images, labels = sorted(split.iterdir()), DATA / split.relative_to(DATA).parents[1] / "labels" / split.name
        for path in images[:: len(images) // EACH][:EACH]:
            for original in (path, labels / f"{path.stem}.png"):
                link = folder / original.relative_to(DATA)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(original)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the real pair is not at {DATA}; name its folder in RIPU_DATA")
def test_roads_experiment_goes_through(tmp_path: Path) -> None:
    small = ["debug=quick", "budget.rounds=1", "data.source_size=[72,96]", "data.target_size=[72,96]", "pictures=1"]
    part(tmp_path / "data")
    data = str(tmp_path / "data")
    done = call_inside("ripu-train", "experiment=roads", *small, "output=run", cwd=tmp_path, RIPU_DATA=data)
    assert done.returncode == 0, done.stderr[-3000:]
    store = LabelStore.open(tmp_path / "run" / "labels")
    assert store.rounds[0].queries == EACH * 271  # ceil(288 * 384 * 0.022 / 9) squares on every training image
    assert store.void > 0
    with (tmp_path / "run" / "rounds.csv").open() as file:
        assert [row["round"] for row in csv.DictReader(file)] == ["0", "1"]
