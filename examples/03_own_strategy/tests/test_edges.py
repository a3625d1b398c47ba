"""The strategy passes the conformance kit and queries borders first."""

import torch
from ripu_edges import boundary

from ripu_lightning.acquisition import ScoreInputs, Superpixel, get_strategy
from ripu_lightning.testing import check_strategy


def test_conforms() -> None:
    """With its own region type, and with another."""
    check_strategy(boundary)
    check_strategy(lambda: boundary(region_type=Superpixel()))


def test_is_found_by_name_with_its_options() -> None:
    """The entry point is found."""
    strategy = get_strategy("boundary", radius=2)
    assert (strategy.name, strategy.region_type.exclusion) == ("boundary", 4)


def test_borders_come_first_by_margin() -> None:
    """A certain border pixel is queried before an uncertain pixel inside."""
    logits = torch.tensor([[1.0, 9.0, 9.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0, 9.0]]).reshape(1, 2, 1, 5)
    scores = boundary().score(ScoreInputs(logits, ["image"], round=1, seed=0))[0, 0]
    assert scores.argsort(descending=True)[:3].tolist() == [3, 2, 0]
