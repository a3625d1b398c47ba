"""Scores and picks against the outputs of the authors' code, state carried over the rounds."""

import ast
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ripu_lightning.acquisition import Budget, Greedy, ScoreInputs, get_strategy, round_selection, select
from ripu_lightning.acquisition import functional as F

# The copies in the tree, and the whole collection where RIPU_GOLDEN names it.
FOLDERS = [Path(__file__).parents[1] / "data" / "golden", *map(Path, filter(None, [os.environ.get("RIPU_GOLDEN")]))]
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.npz"))]


def load(setting: str) -> list[Any]:
    cases = []
    for path in FILES:
        with np.load(path) as file:
            if "meta" not in file.files:
                continue
            arrays = {name: file[name] for name in file.files}
        meta = ast.literal_eval(str(arrays.pop("meta")))
        if meta["setting"] == setting:
            cases.append(pytest.param(arrays, meta, id=f"{path.parent.name}/{path.stem}"))
    return cases


@pytest.mark.parametrize("eps", [0.0, F.PUBLIC_EPS])
@pytest.mark.parametrize(("arrays", "meta"), load("RA"))
def test_region_based_rounds(arrays: dict[str, np.ndarray], meta: dict[str, Any], eps: float) -> None:
    height, width, radius = meta["height"], meta["width"], meta["radius"]
    count = math.ceil(height * width * meta["ratio"] / meta["rounds"] / (2 * radius + 1) ** 2)
    # The authors divide by log 19 whatever the number of classes is; we divide by log C.
    scale = math.log(meta["num_classes"]) / math.log(19)
    available = torch.ones(height, width, dtype=torch.bool)
    queried = torch.zeros_like(available)
    for number in range(meta["rounds"]):
        logits = torch.from_numpy(arrays[f"logits{number}"])[None]
        score = F.ripu(logits, radius, eps)[0]
        tolerance = {"rtol": 0, "atol": 1e-5}
        torch.testing.assert_close(score * scale**2, torch.from_numpy(arrays[f"score{number}"]), **tolerance)
        impurity = F.region_impurity(logits, radius, eps=eps)[0] * scale
        torch.testing.assert_close(impurity, torch.from_numpy(arrays[f"impurity{number}"]), **tolerance)
        uncertainty = F.region_uncertainty(logits, radius, eps=eps)[0] * scale
        torch.testing.assert_close(uncertainty, torch.from_numpy(arrays[f"uncertainty{number}"]), **tolerance)
        picked = select(score, available, count, radius, exclusion=2 * radius)
        available, queried = picked.available, queried | picked.region
        assert torch.equal(~available, torch.from_numpy(arrays[f"active{number}"]))
        assert torch.equal(queried, torch.from_numpy(arrays[f"selected{number}"]))
        expected_mask = np.where(queried.numpy(), arrays["gt"], 255)
        assert np.array_equal(expected_mask, arrays[f"mask{number}"])


@pytest.mark.parametrize(("arrays", "meta"), load("PA"))
def test_pixel_based_rounds(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    height, width, radius = meta["height"], meta["width"], meta["radius"]
    # The count of the public code, which scales the published number from 1280x640 to 2048x1024.
    count = math.ceil(meta["pixels"] / meta["rounds"] * (2048 * 1024) / (1280 * 640))
    available = torch.ones(height, width, dtype=torch.bool)
    queried = torch.zeros_like(available)
    for number in range(meta["rounds"]):
        score = F.ripu_point(torch.from_numpy(arrays[f"logits{number}"])[None], radius)[0]
        picked = select(score, available, count, radius=0, exclusion=radius)
        available, queried = picked.available, queried | picked.region
        expected = torch.from_numpy(arrays[f"selected{number}"]).clone()
        if len(picked.centres) < count:
            expected[0, 0] = queried[0, 0]  # when nothing is available, the authors continue to pick (0, 0); we stop
        assert torch.equal(queried, expected)
        assert torch.equal(~available, torch.from_numpy(arrays[f"active{number}"]))


@pytest.mark.parametrize("exhausted", ["stop", "origin"])
@pytest.mark.parametrize(("arrays", "meta"), load("PA"))
def test_an_exhausted_image_as_the_authors_have_it(
    arrays: dict[str, np.ndarray], meta: dict[str, Any], exhausted: str
) -> None:
    """The case runs out of pixels in a later round: the authors then continue with pixel (0, 0)."""
    radius, rounds = meta["radius"], meta["rounds"]
    count = math.ceil(meta["pixels"] / rounds * (2048 * 1024) / (1280 * 640))
    strategy = get_strategy("ripu_point", radius=radius, selection_rule=Greedy(exhausted))
    available = torch.ones(meta["height"], meta["width"], dtype=torch.bool)
    queried, ran_out = torch.zeros_like(available), False
    for number in range(rounds):
        budget = Budget(clicks=count * rounds, rounds=rounds)
        selection = round_selection(strategy, budget, number + 1, available.numel())
        logits = torch.from_numpy(arrays[f"logits{number}"])[None]
        picks = selection.add(0, ScoreInputs(logits, ["image"], number + 1, 0), available).get(0)
        for position in picks.positions.tolist() if picks else []:
            row, column = divmod(position, meta["width"])
            queried[row, column] = True
            available[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1] = False
        expected = torch.from_numpy(arrays[f"selected{number}"])
        ran_out = ran_out or not bool(available.any())
        if exhausted == "stop" and ran_out:
            assert not queried[0, 0]
            expected = expected.clone()
            expected[0, 0] = False
        assert torch.equal(queried, expected)
    assert ran_out
