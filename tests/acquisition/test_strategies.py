"""The registry, the parts of every built-in strategy, random draws, and imports of torch alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ripu_lightning.acquisition import (
    Budget,
    Greedy,
    KCentre,
    Pixel,
    Scored,
    ScoreInputs,
    Strategy,
    Superpixel,
    get_strategy,
    list_strategies,
    published_budget,
    register_strategy,
    registry,
    round_selection,
)
from ripu_lightning.acquisition import functional as F
from ripu_lightning.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "strategy"

# name -> region type, exclusion, selection rule, requirements besides logits
MADE_OF = {
    "bald": ("square", 2, "greedy", {"samples"}),
    "core_set": ("image", 0, "k_centre", {"features", "source_statistics"}),
    "d2ada": ("superpixel", 0, "greedy", {"features", "regions", "source_statistics", "pool_statistics"}),
    "entropy": ("square", 2, "greedy", set()),
    "halo": ("square", 2, "greedy", {"features"}),
    "impurity": ("square", 2, "greedy", set()),
    "least_confidence": ("square", 2, "greedy", set()),
    "mada": ("image", 0, "greedy", {"features", "source_statistics"}),
    "margin": ("square", 2, "greedy", set()),
    "mulactseg": ("superpixel", 0, "greedy", {"pool_statistics"}),
    "pixelpick": ("pixel", 0, "top_random", set()),
    "random": ("square", 2, "top_random", set()),
    "ripu": ("square", 2, "greedy", set()),
    "ripu_diverse": ("square", 2, "k_centre", {"features"}),
    "ripu_point": ("pixel", 32, "greedy", set()),
    "uncertainty": ("square", 2, "greedy", set()),
}
SQUARES = [name for name, (region_type, *_) in MADE_OF.items() if region_type == "square"]


@pytest.fixture
def factories(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is put back after the test."""
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))


def drawn(seed: int = 3, batch: int = 2, round_number: int = 1, run_seed: int = 0) -> ScoreInputs:
    logits = torch.randn((batch, 4, 30, 40), generator=torch.Generator().manual_seed(seed))
    return ScoreInputs(logits, [f"image_{i}" for i in range(batch)], round_number, run_seed)


def picks(strategy: Strategy, inputs: ScoreInputs, clicks: int) -> list[int]:
    """Positions selected in one image with so many clicks."""
    budget, (height, width) = Budget(clicks=clicks, rounds=1), inputs.shape
    selection = round_selection(strategy, budget, 1, height * width)
    return selection.add(0, inputs, torch.ones(inputs.shape, dtype=torch.bool))[0].positions.tolist()


def test_every_strategy_is_listed_in_order_and_has_a_config() -> None:
    assert list_strategies() == sorted(list_strategies())
    assert set(MADE_OF) == set(registry._FACTORIES) <= set(list_strategies())
    assert {path.stem for path in CONF.glob("*.yaml")} == {*MADE_OF, "registered"}


@pytest.mark.parametrize("name", MADE_OF)
def test_made_of(name: str) -> None:
    strategy = get_strategy(name)
    region_type, exclusion, selection_rule, requires = MADE_OF[name]
    assert strategy.name == name
    assert (strategy.region_type.name, strategy.region_type.exclusion, strategy.selection_rule.name) == (
        region_type,
        exclusion,
        selection_rule,
    )
    assert strategy.requires == requires | {"logits"}
    assert (strategy.samples > 0) == ("samples" in requires)


@pytest.mark.parametrize("name", SQUARES)
def test_radius_sets_the_square_and_a_region_type_replaces_it(name: str) -> None:
    region_type = get_strategy(name, radius=4).region_type
    assert (region_type.exclusion, region_type.area(50, 50)) == (8, 81)
    assert get_strategy(name, region_type=Pixel(exclusion=3)).region_type.exclusion == 3
    with pytest.raises(UserError, match=rf"{name}: radius must be .* got -1"):
        get_strategy(name, radius=-1)


def test_a_rule_replaces_a_strategy_s_own_and_adds_its_requirements() -> None:
    strategy = get_strategy("random", selection_rule=KCentre())
    assert strategy.requires == {"logits", "features"}
    assert strategy.candidate_fields == {"features"}


def test_unknown_name_suggests() -> None:
    with pytest.raises(UserError, match="get_strategy: name 'entropi' is unknown; did you mean 'entropy'"):
        get_strategy("entropi")


@pytest.mark.parametrize("name", MADE_OF)
def test_unknown_option_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}'.*'radiuss'"):
        get_strategy(name, radiuss=3)


@pytest.mark.usefixtures("factories")
def test_registering_twice_is_refused() -> None:
    register_strategy("mine", lambda k=1: Scored("mine", lambda given: F.entropy(given.logits) * k, Pixel()))
    assert "mine" in list_strategies()
    assert torch.equal(get_strategy("mine", k=3).score(drawn()), F.entropy(drawn().logits) * 3)
    for name in ("mine", "random"):
        with pytest.raises(ValueError, match=f"'{name}' is already registered"):
            register_strategy(name, lambda: get_strategy("random"))
    assert get_strategy("mine").name == "mine"


@pytest.mark.usefixtures("factories")
def test_published_budgets() -> None:
    assert published_budget("ripu") == Budget(ratio=0.022)
    assert published_budget("ripu_point", rounds=2) == Budget(clicks=40, rounds=2)
    assert published_budget("mada") == Budget(ratio=0.05, per="pool", rounds=1)
    assert all(published_budget(name).unit for name in MADE_OF)
    register_strategy("mine", lambda: Scored("mine", lambda given: F.entropy(given.logits), Pixel()))
    with pytest.raises(UserError, match="'mine' has no published budget"):
        published_budget("mine")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"requires": ["truth"]}, "mine: requires must be of logits, features.* got truth"),
        ({"requires": ["samples"]}, "mine: samples .* got 0"),
        ({"samples": 3}, "mine: samples .* got 3"),
    ],
)
def test_requirements_that_cannot_be_met_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Strategy("mine", Pixel(), **options)


def test_a_missing_method_is_named() -> None:
    bare = Strategy("bare", Superpixel(), Greedy(), requires=["pool_statistics"])
    with pytest.raises(NotImplementedError, match="bare has no score"):
        bare.score(drawn())
    with pytest.raises(NotImplementedError, match="bare requires statistics"):
        bare.summarize(drawn())


def test_ripu_diverse_is_ripu_in_another_order() -> None:
    logits = drawn(batch=1).logits
    features = torch.randn((1, 5, 15, 20), generator=torch.Generator().manual_seed(1))
    inputs = ScoreInputs(logits, ["a"], 1, 0, features=features)
    assert torch.equal(
        get_strategy("ripu_diverse", radius=2).score(inputs), get_strategy("ripu", radius=2).score(inputs)
    )
    found = picks(get_strategy("ripu_diverse"), inputs, 6)
    assert found == picks(get_strategy("ripu", selection_rule=KCentre(shortlist=10)), inputs, 6)
    assert set(found) <= set(picks(get_strategy("ripu"), inputs, 60))
    assert found != picks(get_strategy("ripu"), inputs, 6)


def test_random_depends_on_seed_round_and_image_alone() -> None:
    score = get_strategy("random").score
    torch.manual_seed(1)
    both = score(drawn())
    torch.manual_seed(2)
    second = ScoreInputs(drawn().logits[1:], ["image_1"], 1, 0)
    assert torch.equal(score(second)[0], both[1])
    assert torch.equal(score(drawn(seed=4)), both)
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(score(drawn(round_number=2)), both)
    assert not torch.equal(score(drawn(run_seed=1)), both)
    assert 0.45 < both.mean() < 0.55


def test_random_picks_do_not_look_at_the_prediction() -> None:
    first = picks(get_strategy("random"), drawn(batch=1), 20)
    assert picks(get_strategy("random"), drawn(seed=4, batch=1), 20) == first
    assert picks(get_strategy("random"), drawn(batch=1, run_seed=1), 20) != first
    assert picks(get_strategy("random"), drawn(batch=1, round_number=2), 20) != first


def test_pixelpick_draws_among_the_share_with_the_smallest_margin() -> None:
    inputs = drawn(batch=1)  # 1200 pixels: 60 are 5 %
    leads = inputs.logits[0].softmax(dim=0).sort(dim=0, descending=True).values
    order = (leads[0] - leads[1]).reshape(-1).argsort().tolist()
    found = picks(get_strategy("pixelpick"), inputs, 25)
    assert len(set(found)) == 25
    assert set(found) < set(order[:60])
    assert any(order.index(pick) >= 35 for pick in found)  # not merely the smallest ones
    assert picks(get_strategy("pixelpick"), drawn(batch=1, run_seed=1), 25) != found
    assert set(picks(get_strategy("pixelpick", share=0.01), inputs, 12)) == set(order[:12])


def test_pixelpick_takes_the_next_best_when_its_share_is_spent() -> None:
    inputs = drawn(batch=1)
    margins = F.margin(inputs.logits).reshape(-1)
    found = picks(get_strategy("pixelpick", share=0.01), inputs, 30)
    assert found[12:] == margins.argsort(descending=True)[12:30].tolist()


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_pixelpick_refuses_a_share_out_of_range(share: float) -> None:
    with pytest.raises(UserError, match="pixelpick: share must be a number > 0 and <= 1"):
        get_strategy("pixelpick", share=share)


def test_imports_torch_and_nothing_else() -> None:
    code = """
import sys
blocked = {"pytorch_lightning", "lightning", "hydra", "omegaconf", "wandb", "albumentations", "numpy", "PIL",
           "torchvision", "torchmetrics", "yaml", "pyarrow", "matplotlib", "rich", "tqdm", "skimage", "scipy"}
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
from ripu_lightning.testing import check_state_round_trip
check_state_round_trip(lambda: get_strategy("d2ada"))
print("fine")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
