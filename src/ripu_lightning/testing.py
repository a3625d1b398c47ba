"""Conformance kit: checks that every acquisition strategy must pass. Needs torch alone.

In a test of your own package::

    from ripu_lightning.testing import check_strategy

    def test_conforms():
        check_strategy(lambda: MyStrategy(radius=2))
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ripu_lightning.acquisition import Budget, Outline, Picks, ScoreInputs, Square, Strategy, round_selection
from ripu_lightning.seeding import derive_seed

Factory = Callable[[], Strategy]
Round = dict[int, Picks]

POOL_BUDGETS = (Budget(ratio=0.3, per="pool", rounds=2), Budget(clicks=3, per="pool", rounds=2, split="geometric"))
IMAGE_BUDGETS = (Budget(ratio=0.05, rounds=2), Budget(clicks=5, rounds=2))


@dataclass(frozen=True)
class Pool:
    """Random logits, features, samples and superpixels of images of one ``shape`` ``(H, W)``, equal at every call."""

    images: int = 5
    classes: int = 4
    shape: tuple[int, int] = (72, 80)
    seed: int = 0

    def inputs(self, strategy: Strategy, index: int, round_number: int = 1, domain: str = "pool") -> ScoreInputs:
        """One image as the strategy may see it, with exactly the inputs that it requires."""
        name = f"{domain}_{index}"
        height, width = self.shape
        logits = 3 * self._draw(name, "logits", self.classes, height // 8, width // 8)
        logits = torch.nn.functional.interpolate(logits, self.shape, mode="bilinear", align_corners=True)
        noise = [self._draw(name, f"noise {number}", self.classes, height, width) for number in range(4)]
        requires = strategy.requires
        return ScoreInputs(
            logits=logits + 0.3 * noise[0],
            image_ids=[name],
            round=round_number,
            seed=self.seed,
            features=self._draw(name, "features", 6, height // 4, width // 4) if "features" in requires else None,
            samples=[logits + each for each in noise[1:]] if "samples" in requires else None,
            regions=self._regions(name)[None] if strategy.region_type.segments else None,
        )

    def fit(self, strategy: Strategy, round_number: int = 1) -> None:
        """Give the strategy the statistics that it requires."""
        summaries = {
            domain: [
                strategy.summarize(self.inputs(strategy, index, round_number, domain)).cpu()
                for index in range(self.images)
                if f"{domain}_statistics" in strategy.requires
            ]
            for domain in ("source", "pool")
        }
        if summaries["source"] or summaries["pool"]:
            strategy.fit(summaries["source"], summaries["pool"], derive_seed(self.seed, "fit", round_number))

    def _draw(self, name: str, purpose: str, channels: int, height: int, width: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, name, purpose))
        return torch.randn((1, channels, height, width), generator=generator)

    def _regions(self, name: str) -> Tensor:
        """Cells around drawn points: superpixels of any shape, some of one or two pixels."""
        height, width = self.shape
        points = (self._draw(name, "regions", 2, 1, 30)[0, :, 0].T + 2) / 4 * torch.tensor([height, width])
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        cell = torch.cdist(torch.stack((rows, columns), dim=2).reshape(-1, 2).float(), points).argmin(dim=1)
        number = torch.zeros(30, dtype=torch.int64).index_fill_(0, cell, 1).cumsum(0) - 1  # without gaps
        return number[cell].reshape(self.shape)


@dataclass
class SimulatedRun:
    """The rounds of a run on a pool with a strategy for each process, and the records that a label store would keep.

    ``times_queried`` and ``available`` are maps ``(H, W)`` by image.
    """

    pool: Pool
    strategies: Sequence[Strategy]
    rounds: list[Round] = field(default_factory=list)
    times_queried: dict[int, Tensor] = field(default_factory=dict)
    available: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index in range(self.pool.images):
            self.times_queried[index] = torch.zeros(self.pool.shape, dtype=torch.int64)
            self.available[index] = torch.ones(self.pool.shape, dtype=torch.bool)

    @property
    def strategy(self) -> Strategy:
        """The strategy of the first process."""
        return self.strategies[0]

    def run_rounds(self, budget: Budget) -> list[Round]:
        """Run all rounds of a budget."""
        return [self.run_round(budget, number) for number in range(1, budget.rounds + 1)]

    def run_round(self, budget: Budget, round_number: int) -> Round:
        """Run one round, with one process for each strategy."""
        for strategy in self.strategies:
            self.pool.fit(strategy, round_number)
        height, width = self.pool.shape
        pixels = height * width * self.pool.images
        processes = [round_selection(strategy, budget, round_number, pixels) for strategy in self.strategies]
        picks: Round = {}
        for index in range(self.pool.images):
            earlier = [found[index].positions for found in self.rounds if index in found]
            queried = torch.cat([torch.empty(0, dtype=torch.int64), *earlier])
            inputs = self.pool.inputs(self.strategy, index, round_number)
            picks |= processes[index % len(processes)].add(index, inputs, self.available[index], queried)
        picks |= processes[0].decide([part for process in processes for part in process.candidates()])
        for index, picked in picks.items():
            self._mark(index, picked)
        self.rounds.append(picks)
        return picks

    def anything_left(self, index: int) -> bool:
        """Whether any unit of an image may still be picked."""
        scores = torch.rand(self.pool.shape)
        units = self.strategy.region_type.units(scores, self.available[index], self._regions(index))
        return bool(units.free.any())

    def sizes(self, index: int, picks: Picks) -> list[int]:
        """Pixels of each query."""
        return [int(mask.sum()) for mask in self._masks(self._outline(index, picks))]

    def _mark(self, index: int, picks: Picks) -> None:
        for mask in self._masks(self._outline(index, picks)):
            self.times_queried[index] += mask
            self.available[index] &= ~mask
        excluded = Square(self.strategy.region_type.exclusion).outline(picks.positions, self.pool.shape)
        for mask in self._masks(excluded):
            self.available[index] &= ~mask

    def _outline(self, index: int, picks: Picks) -> Outline:
        return self.strategy.region_type.outline(picks.positions, self.pool.shape, self._regions(index))

    def _regions(self, index: int) -> Tensor | None:
        regions = self.pool.inputs(self.strategy, index).regions
        return None if regions is None else regions[0]

    def _masks(self, outline: Outline) -> Iterator[Tensor]:
        start = 0
        for top, left, height, width in outline.boxes.tolist():
            mask, end = torch.zeros(self.pool.shape, dtype=torch.bool), start + height * width
            patch = torch.ones(end - start, dtype=torch.bool) if outline.inside is None else outline.inside[start:end]
            mask[top : top + height, left : left + width] = patch.reshape(height, width)
            start = end
            yield mask


def check_strategy(make: Factory) -> None:
    """Run all checks of this module; AssertionError names the strategy and its fault.

    Args:
        make: returns a new strategy at every call.
    """
    for check in CHECKS:
        check(make)


def check_scores(make: Factory) -> None:
    """Scores are finite, floating, of the image's shape, and computed from the required inputs alone."""
    pool, strategy = Pool(), make()
    try:
        pool.fit(strategy)
        scores = strategy.score(pool.inputs(strategy, 0))
    except Exception as error:
        raise AssertionError(
            f"strategy {strategy.name}: cannot score with the inputs that it requires "
            f"({', '.join(sorted(strategy.requires))}): {type(error).__name__}: {error}"
        ) from error
    expected = (1, *pool.shape)
    _require(strategy, tuple(scores.shape) == expected, f"scores of shape {tuple(scores.shape)}, expected {expected}")
    _require(strategy, scores.is_floating_point() and bool(torch.isfinite(scores).all()), "scores are not finite")


def check_determinism(make: Factory) -> None:
    """The same inputs give the same picks, whatever the global random state and the rounds of other runs."""
    for budget in budgets_of(make()):
        torch.manual_seed(1)
        first = _run(make, budget)
        torch.manual_seed(2)
        _require_same(make(), first, _run(make, budget), f"a second run with {budget}")


def check_exact_budget(make: Factory) -> None:
    """Each round spends its amount: the last pick reaches it and none follows, unless nothing is available any more."""
    for budget in budgets_of(make()):
        run = SimulatedRun(Pool(), [make()])
        height, width = run.pool.shape
        pool = range(run.pool.images)
        for number in range(1, budget.rounds + 1):
            picks = run.run_round(budget, number)
            for images in [pool] if budget.per == "pool" else [[index] for index in pool]:
                amount = budget.amount(number, height * width * len(images))
                _require_spent(run, budget, picks, images, amount)


def check_never_reselects(make: Factory) -> None:
    """No pixel is queried twice, in one round or in several."""
    for budget in budgets_of(make()):
        run = SimulatedRun(Pool(), [make()])
        run.run_rounds(budget)
        most = max(int(times.max()) for times in run.times_queried.values())
        _require(run.strategy, most == 1, f"a pixel was queried {most} times with {budget}")


def check_nothing_available(make: Factory) -> None:
    """If everything is labelled already, nothing is picked."""
    for budget in budgets_of(make()):
        run = SimulatedRun(Pool(), [make()])
        for available in run.available.values():
            available.fill_(False)
        _require(run.strategy, not run.run_round(budget, 1), f"picked where nothing was available with {budget}")


def check_batch_split(make: Factory) -> None:
    """An image's scores are the same alone and in a batch."""
    pool, strategy = Pool(), make()
    pool.fit(strategy)
    alone = [pool.inputs(strategy, index) for index in range(3)]
    together = ScoreInputs(
        logits=torch.cat([each.logits for each in alone]),
        image_ids=[each.image_ids[0] for each in alone],
        round=1,
        seed=pool.seed,
        features=_stacked([each.features for each in alone]),
        samples=[torch.cat(column) for column in zip(*(each.samples or [] for each in alone), strict=True)],
        regions=_stacked([each.regions for each in alone]),
    )
    expected = torch.cat([strategy.score(each) for each in alone])
    same = torch.equal(strategy.score(together), expected)
    _require(strategy, same, "an image's scores change with the other images of the batch")


def check_world_size(make: Factory) -> None:
    """One process, two and three give the same picks."""
    for budget in budgets_of(make()):
        alone = _run(make, budget)
        for shards in (2, 3):
            _require_same(make(), alone, _run(make, budget, shards), f"{shards} processes with {budget}")


def check_state_round_trip(make: Factory) -> None:
    """``state_dict`` survives a checkpoint, and a new strategy that loads it scores the same."""
    pool, strategy = Pool(), make()
    pool.fit(strategy)
    file = io.BytesIO()
    torch.save(strategy.state_dict(), file)
    file.seek(0)
    restored = make()
    restored.load_state_dict(torch.load(file, weights_only=True))
    expected = strategy.score(pool.inputs(strategy, 0))
    try:
        same = torch.equal(expected, restored.score(pool.inputs(restored, 0)))
    except Exception as error:
        raise AssertionError(
            f"strategy {strategy.name}: cannot score after state_dict and load_state_dict: "
            f"{type(error).__name__}: {error}"
        ) from error
    _require(strategy, same, "scores differ after state_dict, torch.save and load_state_dict")


CHECKS: Sequence[Callable[[Factory], None]] = (
    check_scores,
    check_determinism,
    check_exact_budget,
    check_never_reselects,
    check_nothing_available,
    check_batch_split,
    check_world_size,
    check_state_round_trip,
)


def budgets_of(strategy: Strategy) -> Sequence[Budget]:
    """The budgets that a strategy is checked with; whole images need a budget of the pool."""
    return POOL_BUDGETS if strategy.region_type.name == "image" else (*IMAGE_BUDGETS, *POOL_BUDGETS)


def _run(make: Factory, budget: Budget, shards: int = 1) -> list[Round]:
    return SimulatedRun(Pool(), [make() for _ in range(shards)]).run_rounds(budget)


def _stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _require_spent(run: SimulatedRun, budget: Budget, picks: Round, images: Sequence[int], amount: float) -> None:
    area = run.strategy.region_type.area(*run.pool.shape)
    costs: list[int] = []
    for index, picked in [(index, picks[index]) for index in images if index in picks]:
        sizes = run.sizes(index, picked) if area is None else [area] * len(picked.positions)
        costs += sizes if budget.counts_pixels else [1] * len(picked.positions)
    spent = sum(costs)
    enough = spent >= amount - 1e-6 or not any(run.anything_left(index) for index in images)
    _require(run.strategy, enough, f"spent {spent} of {amount} with {budget}")
    _require(run.strategy, not costs or spent - max(costs) < amount, f"overspent {amount} by {spent} with {budget}")


def _require_same(strategy: Strategy, first: list[Round], second: list[Round], what: str) -> None:
    for number, (one, other) in enumerate(zip(first, second, strict=True), start=1):
        same = one.keys() == other.keys() and all(torch.equal(one[i].positions, other[i].positions) for i in one)
        _require(strategy, same, f"round {number} picks something else in {what}")


def _require(strategy: Strategy, holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(f"strategy {strategy.name}: {message}")
