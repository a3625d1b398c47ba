"""Every strategy buys in a whole run on the tiny pair, and the loop gives it just the passes that it needs."""

from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import tiny
from ripu_lightning.acquisition import (
    Answered,
    Budget,
    Pixel,
    Scored,
    ScoreInputs,
    Square,
    Strategy,
    Superpixel,
    WholeImage,
    get_strategy,
    list_strategies,
)
from ripu_lightning.annotation import GroundTruth
from ripu_lightning.errors import UserError
from ripu_lightning.labels import VOID, LabelStore
from ripu_lightning.training import ActiveLearningLoop, Schedule
from ripu_lightning.training.pool_inference import PoolInference

OPTIONS = {
    "ripu_point": {"radius": 3},
    "d2ada": {"region_type": Superpixel(20)},
    "mulactseg": {"region_type": Superpixel(20)},
}


def run(folder: Path, strategy: Strategy, budget: Budget, module: object = None, **options: object) -> LabelStore:
    data = tiny.datamodule(**options)
    schedule = Schedule(steps=8, first_round=3, interval=2, rounds=budget.rounds)
    active = ActiveLearningLoop(strategy, budget, GroundTruth(data.target), schedule, folder / "labels")
    tiny.trainer(folder, active).fit(module or tiny.module(), datamodule=data)
    return LabelStore.open(folder / "labels")


def budget_of(strategy: Strategy) -> Budget:
    per = "pool" if strategy.region_type.name in ("image", "superpixel") else "image"
    return Budget(ratio=0.3 if per == "pool" else 0.05, per=per, rounds=2)


def labelled(store: LabelStore) -> dict[str, np.ndarray]:
    return {image_id: store.query_round(image_id) for image_id in store.queried_images}


@pytest.mark.parametrize("name", list_strategies())
def test_every_strategy_buys_its_budget_with_the_truth_of_what_it_asked(tmp_path: Path, name: str) -> None:
    strategy = get_strategy(name, **OPTIONS.get(name, {}))
    store = run(tmp_path, strategy, budget_of(strategy))
    target = tiny.datamodule().target
    expected = 5 * 24 * 32 * (budget_of(strategy).ratio or 0)
    largest = {"pixel": 1, "square": 9, "superpixel": 0, "image": 24 * 32}[strategy.region_type.name]
    if strategy.region_type.segments:
        maps = [
            strategy.region_type.segment(target.image(index), image_id) for index, image_id in enumerate(target.ids)
        ]
        largest = max(int(torch.bincount(regions.flatten()).max()) for regions in maps)
    images = 1 if budget_of(strategy).per == "pool" else 5
    # A clipped square costs a whole one, so that squares may cover a little less than was paid for.
    assert 0.8 * expected <= store.pixels < expected + 2 * images * largest
    for image_id in store.queried_images:
        queried = store.query_round(image_id) > 0
        truth = target.label(target.ids.index(image_id))
        assert np.array_equal(store.mask(image_id), np.where(queried, truth, 255))
    assert store.pixels == sum(int((store.query_round(image_id) > 0).sum()) for image_id in store.queried_images)


@pytest.mark.parametrize("name", ["bald", "core_set", "d2ada", "mada", "mulactseg", "pixelpick", "random"])
def test_batches_of_the_pool_do_not_change_a_pick(tmp_path: Path, name: str) -> None:
    stores = []
    for size in (1, 3):
        strategy = get_strategy(name, **OPTIONS.get(name, {}))
        module = tiny.module(
            optimizer=partial(torch.optim.SGD, lr=1e-12)
        )  # the same weights: what is learned from other labels must not matter here
        stores.append(run(tmp_path / str(size), strategy, budget_of(strategy), module, eval_batch_size=size))
    first, second = map(labelled, stores)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[image_id], second[image_id]) for image_id in first)


class Recorder(Strategy):
    """Notes which inputs it is given."""

    def __init__(self, requires: list[str], samples: int = 0) -> None:
        super().__init__("recorder", Pixel(), requires=requires, samples=samples)
        self.seen: list[ScoreInputs] = []
        self.fitted: list[tuple[int, int]] = []

    def summarize(self, inputs: ScoreInputs) -> Tensor:
        return torch.ones(1)

    def fit(self, source: list[Tensor], pool: list[Tensor], seed: int) -> None:
        self.fitted.append((len(source), len(pool)))

    def score(self, inputs: ScoreInputs) -> Tensor:
        self.seen.append(inputs)
        return inputs.logits[:, 0]

    def __deepcopy__(self, memo: dict) -> "Recorder":
        return Recorder(sorted(self.requires), self.samples)


def test_answers_of_earlier_rounds_come_with_the_statistics_of_the_pool(tmp_path: Path) -> None:
    class Learner(Recorder):
        answers: ClassVar[dict[tuple[int, str], Answered]] = {}

        def summarize(self, inputs: ScoreInputs) -> Tensor:
            if inputs.answers is not None:
                self.answers[inputs.round, inputs.image_ids[0]] = inputs.answers
            return torch.ones(1)

    strategy = Learner(["answers", "pool_statistics"])
    strategy.region_type = Square(1)
    store = run(tmp_path, strategy, Budget(clicks=24, rounds=2))
    assert len(strategy.answers) == 2 * 5
    shares = []
    for (number, image_id), answers in strategy.answers.items():
        first, mask = store.answers(image_id, 1), store.mask(image_id, through=1)
        assert first is not None
        centres = first.centres.tolist() if number == 2 else []
        assert answers.positions.tolist() == [row * 32 + column for row, column in centres]
        boxes = [mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] for row, column in centres]
        assert answers.void.tolist() == pytest.approx([float((box == VOID).mean()) for box in boxes])
        shares += answers.void.tolist()
    assert max(shares) > 0


@pytest.mark.parametrize(
    ("requires", "fitted"),
    [
        ([], []),
        (["features"], []),
        (["samples"], []),
        (["source_statistics"], [(4, 0)] * 2),
        (["pool_statistics", "source_statistics"], [(4, 5)] * 2),
    ],
)
def test_the_loop_runs_the_passes_that_are_asked_for_and_no_others(
    tmp_path: Path, requires: list[str], fitted: list
) -> None:
    class Counting(tiny.TwoConvs):
        scored = 0

        def forward(self, images: Tensor):
            Counting.scored += 0 if self.backbone[1].training else len(images)
            return super().forward(images)

    module = tiny.module()
    module.network = Counting()
    strategy = Recorder(requires, samples=3 if "samples" in requires else 0)
    run(tmp_path, strategy, Budget(clicks=4, rounds=2), module)
    assert strategy.fitted == fitted
    assert all((inputs.features is not None) == ("features" in requires) for inputs in strategy.seen)
    assert all((inputs.samples is not None) == ("samples" in requires) for inputs in strategy.seen)
    pool_inference = 5 + (4 if "source_statistics" in requires else 0) + (5 if "pool_statistics" in requires else 0)
    validation = 3 * 3  # three images after each of three stages
    first_look = 1  # whether the outputs can be scored is seen before any training
    assert Counting.scored == 2 * pool_inference + validation + first_look  # samples were offered, but nobody drew them


def test_dropout_samples_differ_and_leave_the_network_in_eval_mode(tmp_path: Path) -> None:
    drawn = []

    def score(inputs: ScoreInputs) -> Tensor:
        drawn.append([sample.clone() for sample in inputs.samples or []])
        return inputs.logits[:, 0]

    module = tiny.module()
    strategy = Scored("sampling", score, Pixel(), requires=["samples"], samples=3)
    state = torch.get_rng_state()
    run(tmp_path, strategy, Budget(clicks=2, rounds=1), module)
    assert not torch.equal(state, torch.get_rng_state())  # training drew; what follows is about acquisition alone
    in_loop = drawn[1:]  # the first is the rehearsal on noise
    assert [len(samples) for samples in in_loop] == [3] * 5
    for samples in in_loop:
        assert not torch.equal(samples[0], samples[1])
        assert samples[0].shape == (1, 3, 24, 32)


@pytest.mark.parametrize("twice", [False, True])
def test_logits_are_brought_to_the_labels_size_in_one_step_or_in_two(tmp_path: Path, twice: bool) -> None:
    """The public code goes from the network's stride to the input's size, here 10x14, and from there to the label's."""
    data, module = tiny.datamodule(target_size=[10, 14]), tiny.module().eval()
    strategy = get_strategy("bald", samples=1)
    pool_inference = PoolInference(tiny.trainer(tmp_path, tiny.loop(tmp_path, data)), module, strategy, 1, 0, twice)

    def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
        return interpolate(logits, size, mode="bilinear", align_corners=True)

    with torch.no_grad():
        images = list(pool_inference.run(data.pool_dataloader(), data.image_sizes, "x"))
        small = torch.cat([module(batch.image).logits for batch in data.pool_dataloader()])
        direct, detour = resized(small, (24, 32)), resized(resized(small, (10, 14)), (24, 32))
        assert not torch.allclose(direct, detour)
        found = torch.cat([image.inputs.logits for image in images])
        torch.testing.assert_close(found, detour if twice else direct)
        assert all(sample.shape == (1, 3, 24, 32) for image in images for sample in image.inputs.samples)


def test_bald_without_dropout_is_refused_before_training(tmp_path: Path) -> None:
    module = tiny.module()
    module.network.backbone[3] = nn.Dropout2d(0.0)
    with pytest.raises(UserError, match=r"strategy bald samples with dropout, but the network has no dropout layer"):
        run(tmp_path, get_strategy("bald"), Budget(clicks=2, rounds=1), module)
    assert not (tmp_path / "labels" / "round_001.parquet").exists()


def test_a_network_without_features_is_refused_where_they_are_needed(tmp_path: Path) -> None:
    class LogitsOnly(tiny.TwoConvs):
        def forward(self, images: Tensor):
            return super().forward(images)._replace(features=None)

    module = tiny.module()
    module.network = LogitsOnly()
    before = [weight.clone() for weight in module.parameters()]
    with pytest.raises(UserError, match="requires features"):
        run(tmp_path, get_strategy("halo"), Budget(clicks=2, rounds=1), module)
    assert all(torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))


def test_what_a_strategy_learned_is_in_the_loops_state(tmp_path: Path) -> None:
    data = tiny.datamodule()
    strategy = get_strategy("mada", anchors=3)
    schedule = Schedule(steps=8, first_round=3, interval=2, rounds=1)
    folder = tmp_path / "labels"
    budget = Budget(images=2, per="pool", rounds=1)
    active = ActiveLearningLoop(strategy, budget, GroundTruth(data.target), schedule, folder)
    tiny.trainer(tmp_path, active).fit(tiny.module(), datamodule=data)
    again = ActiveLearningLoop(get_strategy("mada"), budget, GroundTruth(data.target), schedule, folder)
    again.load_state_dict(active.state_dict())
    assert torch.equal(again.strategy.state_dict()["anchors"], strategy.state_dict()["anchors"])
    assert len(LabelStore.open(folder).queried_images) == 2


def test_whole_images_are_queried_once(tmp_path: Path) -> None:
    store = run(tmp_path, get_strategy("entropy", region_type=WholeImage()), Budget(images=4, per="pool", rounds=2))
    assert [entry.queries for entry in store.rounds] == [2, 2]
    assert len(store.queried_images) == 4
    assert store.pixels == 4 * 24 * 32


def label_maps(folder: Path, dataset: tiny.Blocks, but: str = "") -> Superpixel:
    """Superpixels of 6 x 8 pixels with gaps in their numbers, as files."""
    folder.mkdir(exist_ok=True)
    rows, columns = torch.arange(24)[:, None] // 6, torch.arange(32) // 8
    for image_id in dataset.ids:
        if image_id != but:
            torch.save(rows * 10 + columns * 2, folder / f"{image_id}.pt")
    return Superpixel(folder=folder)


def test_label_maps_of_the_target_are_enough_where_statistics_need_no_regions(tmp_path: Path) -> None:
    region_type = label_maps(tmp_path / "maps", tiny.datamodule().target)
    strategy = get_strategy("core_set", region_type=region_type)
    store = run(tmp_path, strategy, Budget(regions=6, per="pool", rounds=2))
    assert [entry.queries for entry in store.rounds] == [3, 3]
    assert store.pixels == 6 * 48


def test_missing_label_maps_are_told_before_training(tmp_path: Path) -> None:
    target = tiny.datamodule().target
    region_type = label_maps(tmp_path / "maps", target, but=target.ids[3])
    with pytest.raises(UserError, match=rf"no label map .*{target.ids[3]}"):
        run(tmp_path, get_strategy("mulactseg", region_type=region_type), Budget(regions=6, per="pool", rounds=2))
    label_maps(tmp_path / "maps", target)
    with pytest.raises(UserError, match=r"no label map .*source_0"):  # its densities need the source's regions too
        run(tmp_path, get_strategy("d2ada", region_type=region_type), Budget(regions=6, per="pool", rounds=2))
    assert not (tmp_path / "labels").exists()
