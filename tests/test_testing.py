"""The conformance kit: it passes a tiny right strategy, and fails each way of being wrong, naming the strategy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ripu_lightning import testing
from ripu_lightning.acquisition import (
    Candidates,
    ClassBalanced,
    KCentre,
    RegionType,
    ScoreInputs,
    SelectionRule,
    Square,
    Strategy,
    Superpixel,
    TopRandom,
    WholeImage,
)
from ripu_lightning.acquisition.region_types import Units


class Tiny(Strategy):
    """A right strategy: the best logit of each pixel, the smallest first."""

    def __init__(
        self,
        region_type: RegionType | None = None,
        selection_rule: SelectionRule | None = None,
        requires: Sequence[str] = (),
    ) -> None:
        samples = 3 if "samples" in requires else 0
        super().__init__(type(self).__name__, region_type or Square(1), selection_rule, requires, samples=samples)

    def score(self, inputs: ScoreInputs) -> Tensor:
        return -inputs.logits.amax(dim=1)


class Learned(Tiny):
    """A right strategy that learns a mean of the pool and of the source."""

    def __init__(self) -> None:
        super().__init__(requires=["source_statistics", "pool_statistics"])
        self.mean: Tensor | None = None

    def summarize(self, inputs: ScoreInputs) -> Tensor:
        return inputs.logits[0].mean(dim=(1, 2))

    def fit(self, source: Sequence[Tensor], pool: Sequence[Tensor], seed: int) -> None:
        self.mean = torch.stack([*source, *pool]).mean(dim=0)

    def score(self, inputs: ScoreInputs) -> Tensor:
        if self.mean is None:
            raise RuntimeError("call fit first")
        return (inputs.logits - self.mean[:, None, None]).square().sum(dim=1)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"]


class OfSamples(Tiny):
    """A right strategy that looks at samples and features."""

    def __init__(self) -> None:
        super().__init__(requires=["samples", "features"])

    def score(self, inputs: ScoreInputs) -> Tensor:
        assert inputs.samples is not None
        assert inputs.features is not None
        return torch.stack(list(inputs.samples)).var(dim=0).sum(dim=1) * inputs.features[:, :1, :1, 0].exp()


class GlobalRandom(Tiny):
    def score(self, inputs: ScoreInputs) -> Tensor:
        return torch.rand(len(inputs.image_ids), *inputs.shape)


class OfTheBatch(Tiny):
    def score(self, inputs: ScoreInputs) -> Tensor:
        scores = super().score(inputs)
        return (scores - scores.mean()) / scores.std()


class SometimesNan(Tiny):
    def score(self, inputs: ScoreInputs) -> Tensor:
        scores = super().score(inputs)
        return scores.masked_fill(scores == scores.amax(), torch.nan)


class WholeNumbers(Tiny):
    def score(self, inputs: ScoreInputs) -> Tensor:
        return super().score(inputs).long()


class TooSmall(Tiny):
    def score(self, inputs: ScoreInputs) -> Tensor:
        return super().score(inputs)[:, ::2, ::2]


class Peeking(Tiny):
    def score(self, inputs: ScoreInputs) -> Tensor:
        return super().score(inputs) * self.features_of(inputs).mean()


class PeekingAtSamples(Tiny):
    def score(self, inputs: ScoreInputs) -> Tensor:
        return sum(each.amax(dim=1) for each in inputs.samples or ())[0:1]


class Overspending(Tiny):
    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        return super().select(candidates, 2 * amount, round_number)


class Underspending(Tiny):
    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        return super().select(candidates, amount / 2, round_number)


class AllInTheFirstRound(Tiny):
    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        return super().select(candidates, amount if round_number == 1 else 0, round_number)


class Repeating(Tiny):
    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        return super().select(candidates, amount, round_number)[:1].repeat(99)


class FromTheEnd(Tiny):
    """Reads the worst candidates, which depend on who scored what."""

    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        return candidates.affordable(candidates.ranked().flip(0), amount)


class ByNumberOfCandidates(Tiny):
    """Skips some of the best, the more the longer the list is."""

    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        return candidates.affordable(candidates.ranked().roll(len(candidates) // 2), amount)


class FavouringItsFirst(Tiny):
    """Keeps a state while it scores: the first image that a process happens to see counts double."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ""

    def score(self, inputs: ScoreInputs) -> Tensor:
        self.first = self.first or inputs.image_ids[0]
        factors = torch.tensor([2.0 if image_id == self.first else 1.0 for image_id in inputs.image_ids])
        return super().score(inputs).exp() * factors[:, None, None]


class Forgetful(Learned):
    """Its state is lost, and nobody notices while it scores."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.full((4,), 0.5)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Stateless(Learned):
    """Its state is lost, and it cannot score without it."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Overlapping(Square):
    def __init__(self) -> None:
        super().__init__(radius=2)
        self.exclusion = 1


class QueriedAgain(Square):
    def units(self, scores: Tensor, available: Tensor, regions: Tensor | None = None) -> Units:
        return super().units(scores, torch.ones_like(available), regions)


class Scanty(Square):
    """Keeps fewer units than there are."""

    def greedy_order(self, units: Units, shape: tuple[int, int], limit: int, floor: float = -torch.inf) -> Tensor:
        return super().greedy_order(units, shape, min(limit, 2), floor)


RIGHT: list[Callable[[], Strategy]] = [
    Tiny,
    Learned,
    OfSamples,
    lambda: Tiny(Superpixel(), KCentre(None)),
    lambda: Tiny(Square(2, reduce="mean"), ClassBalanced()),
    lambda: Tiny(WholeImage(), TopRandom(0.1)),
]


@pytest.mark.parametrize("make", RIGHT)
def test_right_strategies_conform(make: Callable[[], Strategy]) -> None:
    testing.check_strategy(make)


@pytest.mark.parametrize(
    ("make", "check", "message"),
    [
        (SometimesNan, testing.check_scores, "finite"),
        (WholeNumbers, testing.check_scores, "finite|floating"),
        (TooSmall, testing.check_scores, r"shape \(1, 36, 40\), expected \(1, 72, 80\)"),
        (Peeking, testing.check_scores, r"the inputs that it requires \(logits\).*features"),
        (PeekingAtSamples, testing.check_scores, r"the inputs that it requires \(logits\)"),
        (GlobalRandom, testing.check_determinism, "a second run"),
        (Overspending, testing.check_exact_budget, "overspent"),
        (Underspending, testing.check_exact_budget, "spent .* of"),
        (AllInTheFirstRound, testing.check_exact_budget, "spent 0 of"),
        (lambda: Tiny(Scanty()), testing.check_exact_budget, "spent .* of"),
        (Repeating, testing.check_never_reselects, "a pixel was queried .* times"),
        (lambda: Tiny(Overlapping()), testing.check_never_reselects, "a pixel was queried .* times"),
        (lambda: Tiny(QueriedAgain()), testing.check_never_reselects, "a pixel was queried .* times"),
        (lambda: Tiny(QueriedAgain()), testing.check_nothing_available, "nothing was available"),
        (OfTheBatch, testing.check_batch_split, "other images of the batch"),
        (FromTheEnd, testing.check_world_size, "processes with"),
        (ByNumberOfCandidates, testing.check_world_size, "processes with"),
        (FavouringItsFirst, testing.check_world_size, "processes with"),
        (Forgetful, testing.check_state_round_trip, "state_dict"),
        (Stateless, testing.check_state_round_trip, "state_dict"),
    ],
)
def test_wrong_strategies_fail_and_are_named(
    make: Callable[[], Strategy], check: Callable[[testing.Factory], None], message: str
) -> None:
    with pytest.raises(AssertionError, match=rf"strategy {make().name}: .*({message})"):
        check(make)


def test_other_pixels_of_the_same_images_are_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "POOL_BUDGETS", ())
    with pytest.raises(AssertionError, match="strategy GlobalRandom: round 1 picks something else in a second run"):
        testing.check_determinism(GlobalRandom)


def test_check_strategy_runs_all_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(testing, "CHECKS", [lambda make: ran.append("one"), lambda make: ran.append("two")])
    testing.check_strategy(Tiny)
    assert ran == ["one", "two"]


def test_every_check_is_among_the_checks() -> None:
    named = [check for name, check in vars(testing).items() if name.startswith("check_") and name != "check_strategy"]
    assert list(testing.CHECKS) == named


def test_a_pool_gives_the_required_inputs_and_the_same_every_time() -> None:
    pool = testing.Pool()
    plain, full = pool.inputs(Tiny(), 1), pool.inputs(OfSamples(), 1)
    assert (plain.features, plain.samples, plain.regions) == (None, None, None)
    assert torch.equal(plain.logits, pool.inputs(Tiny(), 1).logits)
    assert not torch.equal(plain.logits, pool.inputs(Tiny(), 2).logits)
    assert not torch.equal(plain.logits, pool.inputs(Tiny(), 1, domain="source").logits)
    assert full.features is not None
    assert len(list(full.samples or [])) == 3
    regions = pool.inputs(Tiny(Superpixel()), 1).regions
    assert regions is not None
    assert sorted(set(regions.flatten().tolist())) == list(range(int(regions.max()) + 1))


def test_whole_images_are_checked_with_budgets_of_the_pool() -> None:
    assert {budget.per for budget in testing.budgets_of(Tiny(WholeImage()))} == {"pool"}
    assert {budget.per for budget in testing.budgets_of(Tiny())} == {"image", "pool"}
