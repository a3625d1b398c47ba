"""The registry, the four strategies, and that the package needs torch alone."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ripu_lightning.acquisition import ScoreInputs, Strategy, get_strategy, list_strategies, register_strategy, registry
from ripu_lightning.acquisition import functional as F


def inputs(batch: int = 2, round_number: int = 1, seed: int = 0) -> ScoreInputs:
    logits = torch.randn((batch, 4, 70, 80), generator=torch.Generator().manual_seed(3))
    return ScoreInputs(logits, [f"image_{i}" for i in range(batch)], round_number, seed)


def test_the_four_are_there() -> None:
    assert {"ripu", "ripu_point", "entropy", "random"} <= set(list_strategies())


@pytest.mark.parametrize(
    ("name", "options", "expected", "geometry"),
    [
        ("ripu", {}, lambda logits: F.ripu(logits, 1), (1, 2)),
        ("ripu", {"radius": 4}, lambda logits: F.ripu(logits, 4), (4, 8)),
        ("ripu_point", {}, lambda logits: F.ripu_point(logits, 32), (0, 32)),
        ("entropy", {}, F.entropy, (1, 2)),
        ("entropy", {"radius": 0}, F.entropy, (0, 0)),
    ],
)
def test_scores_and_geometry(
    name: str, options: dict, expected: Callable[[Tensor], Tensor], geometry: tuple[int, int]
) -> None:
    strategy, given = get_strategy(name, **options), inputs()
    assert torch.equal(strategy.score(given), expected(given.logits))
    assert (strategy.radius, strategy.exclusion) == geometry


def test_random_depends_on_seed_round_and_image_alone() -> None:
    score = get_strategy("random").score
    torch.manual_seed(1)
    both = score(inputs())
    torch.manual_seed(2)
    second = ScoreInputs(inputs().logits[1:], ["image_1"], 1, 0)
    assert torch.equal(score(second)[0], both[1])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(score(inputs(round_number=2)), both)
    assert not torch.equal(score(inputs(seed=1)), both)
    assert 0.45 < both.mean() < 0.55


def test_unknown_name_suggests() -> None:
    with pytest.raises(ValueError, match="did you mean 'entropy'"):
        get_strategy("entropi")


def test_unknown_option_and_negative_radius() -> None:
    with pytest.raises(ValueError, match="radiuss"):
        get_strategy("ripu", radiuss=3)
    with pytest.raises(ValueError, match=r"strategy\.radius"):
        get_strategy("ripu", radius=-1)


def test_registering_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    register_strategy("mine", lambda: Strategy("mine", lambda given: F.entropy(given.logits), 0, 0))
    assert get_strategy("mine").name == "mine"
    with pytest.raises(ValueError, match="already"):
        register_strategy("mine", lambda: get_strategy("random"))


def test_imports_torch_and_nothing_else() -> None:
    code = """
import sys
blocked = {"pytorch_lightning", "lightning", "hydra", "omegaconf", "wandb", "albumentations", "numpy", "PIL",
           "torchvision", "torchmetrics", "yaml", "pyarrow", "matplotlib", "rich", "tqdm"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import torch
from ripu_lightning.acquisition import select, get_strategy, functional as F
logits = torch.randn(1, 5, 40, 50)
picked = select(F.ripu(logits)[0], torch.ones(40, 50, dtype=torch.bool), 7)
assert len(picked.centres) == 7 and int(picked.region.sum()) <= 63
print("fine")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
