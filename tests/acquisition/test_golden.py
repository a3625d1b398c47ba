"""Scores and picks against the outputs of the authors' code, state carried over the rounds."""

import ast
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition import select

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
    asked = torch.zeros_like(available)
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
        available, asked = picked.available, asked | picked.region
        assert torch.equal(~available, torch.from_numpy(arrays[f"active{number}"]))
        assert torch.equal(asked, torch.from_numpy(arrays[f"selected{number}"]))
        expected_mask = np.where(asked.numpy(), arrays["gt"], 255)
        assert np.array_equal(expected_mask, arrays[f"mask{number}"])


@pytest.mark.parametrize(("arrays", "meta"), load("PA"))
def test_pixel_based_rounds(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    height, width, radius = meta["height"], meta["width"], meta["radius"]
    # The count of the public code, which scales the published number from 1280x640 to 2048x1024.
    count = math.ceil(meta["pixels"] / meta["rounds"] * (2048 * 1024) / (1280 * 640))
    available = torch.ones(height, width, dtype=torch.bool)
    asked = torch.zeros_like(available)
    for number in range(meta["rounds"]):
        score = F.ripu_point(torch.from_numpy(arrays[f"logits{number}"])[None], radius)[0]
        picked = select(score, available, count, radius=0, exclusion=radius)
        available, asked = picked.available, asked | picked.region
        expected = torch.from_numpy(arrays[f"selected{number}"]).clone()
        if len(picked.centres) < count:
            expected[0, 0] = asked[0, 0]  # the authors go on picking (0, 0) when nothing is available; we stop
        assert torch.equal(asked, expected)
        assert torch.equal(~available, torch.from_numpy(arrays[f"active{number}"]))
