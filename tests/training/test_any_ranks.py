"""The same weights ask the same, whatever the number of processes, batch size and loader workers."""

import json
import os
import pickle
import sys
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

import fork_server
import forked
import tiny
from ripu_lightning.acquisition import (
    Budget,
    ClassBalanced,
    KCentre,
    Square,
    Strategy,
    Superpixel,
    TopRandom,
    WholeImage,
    get_strategy,
    list_strategies,
)
from ripu_lightning.annotation import GroundTruth, Query
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.labels import LabelStore
from ripu_lightning.training.acquire import gather_queries, select_queries
from ripu_lightning.training.pool_inference import PoolInference
from ripu_lightning.training.ranks import Ranks

POOLS = (5, 1, 7, 2, 3)  # images, in turns: fewer than processes, and numbers that they do not divide
OPTIONS = {
    "bald": {"samples": 2},
    "ripu_point": {"radius": 3},
    "d2ada": {"region_type": Superpixel(12, compactness=100)},
    "mulactseg": {"region_type": Superpixel(12, compactness=100)},
}
MIXED = {  # orders and region types that no strategy has by itself
    "ripu, class by class": ("ripu", {"selection_rule": ClassBalanced()}),
    "ripu, spread": ("ripu", {"selection_rule": KCentre(shortlist=3)}),
    "entropy, best of the square": ("entropy", {"region_type": Square(2, reduce="max")}),
    "margin, superpixels spread": (
        "margin",
        {"region_type": Superpixel(12, compactness=100), "selection_rule": KCentre(shortlist=None)},
    ),
    "entropy, images at random": ("entropy", {"region_type": WholeImage(), "selection_rule": TopRandom(0.5)}),
}


class Shape(NamedTuple):
    """How a run is spread: processes, images a batch, loader workers."""

    ranks: int
    batch: int
    workers: int


class Case(NamedTuple):
    """What is queried: the name of a strategy, of what the budget is, and the images of the pool."""

    name: str
    per: str
    images: int

    def __str__(self) -> str:
        return f"{self.name}, per {self.per}, {self.images} image(s)"


def strategy_of(name: str) -> Strategy:
    known, options = MIXED.get(name, (name, OPTIONS.get(name, {})))
    return get_strategy(known, **options)


def cases() -> Iterator[Case]:
    plans = list(product([*list_strategies(), *MIXED], ("image", "pool")))
    # Whole images can only be queried of the pool.
    plans = [(name, per) for name, per in plans if per == "pool" or strategy_of(name).region_type.name != "image"]
    for (name, per), images in zip(plans, cycle(POOLS)):
        yield Case(name, per, images)


def budget_of(case: Case) -> Budget:
    if strategy_of(case.name).region_type.name == "image":
        return Budget(images=2, per="pool", rounds=2)
    # Pixels for one kind of budget and picks for the other: both ways of counting.
    return Budget(ratio=0.04, rounds=2) if case.per == "image" else Budget(regions=9, per="pool", rounds=2)


class Ask(Callback):
    """Runs two rounds of every case with the network as it is; rank 0 writes the queries."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder, self.shape = folder, shape

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        asked = {str(case): self.annotate(trainer, module, case) for case in cases()}
        if trainer.is_global_zero:
            (self.folder / "queries.pickle").write_bytes(pickle.dumps(asked))

    def annotate(self, trainer: Trainer, module: LightningModule, case: Case) -> list[list[Query]]:
        # Fewer source images than four ranks, too.
        source, target = tiny.Blocks("source", 3), tiny.Blocks("target!", case.images)
        workers = self.shape.workers if case.images == 7 else 0  # starting them takes longer than all the rest
        data = ActiveDataModule(source, target, None, eval_batch_size=self.shape.batch, num_workers=workers)
        return rounds(trainer, module, data, strategy_of(case.name), budget_of(case), self.folder / str(case))


def rounds(
    trainer: Trainer, module: LightningModule, data: ActiveDataModule, strategy: Strategy, budget: Budget, folder: Path
) -> list[list[Query]]:
    """The queries of every round on rank 0, each round answered and committed before the next."""
    data.trainer = trainer
    target = data.target
    about = {"classes": data.classes.names, "images": {name: target.size(i) for i, name in enumerate(target.ids)}}
    if trainer.is_global_zero:
        LabelStore.create_or_open(folder, **about).close()
    ranks = Ranks(trainer)
    ranks.meet("test")
    store = (LabelStore.create_or_open if trainer.is_global_zero else LabelStore.open)(folder, **about)
    asked = []
    for number in range(1, budget.rounds + 1):
        pool_inference = PoolInference(trainer, module, strategy, number, seed=0)
        queries = gather_queries(select_queries(pool_inference, data, store, budget, ranks), ranks)
        if trainer.is_global_zero:
            answers = GroundTruth(target).annotate(number, queries)
            store.commit(answers, strategy=strategy.name, annotator="x", exclusion=strategy.region_type.exclusion)
        ranks.meet("test")
        store.refresh()
        asked.append(queries)
    store.close()
    return asked


def on_ranks(folder: Path, ranks: int, callback: Callback) -> None:
    """Call a callback's ``on_validation_end`` on so many processes, with a network that was never trained."""
    torch.set_num_threads(1)
    data = ActiveDataModule(tiny.Blocks("source", 1), tiny.Blocks("target!", 1), tiny.Blocks("val", 2))
    options = {"devices": ranks, "strategy": "ddp_fork" if ranks > 1 else "auto"}
    trainer = tiny.trainer(folder, tiny.loop(folder / "unused", data), callback, **options)
    trainer.validate(tiny.module(), datamodule=data, verbose=False)


def start(script: str, *arguments: object) -> None:
    """Run a test module as a program, whose ranks are forked: threads left in this process might hold locks."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, *map(str, arguments)]
    done = forked.run(command, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def run(folder: Path, shape: Shape) -> dict[str, list[list[Query]]]:
    start(__file__, folder, *shape)
    return pickle.loads((folder / "queries.pickle").read_bytes())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Query]]]:
    """One process that looks at one image at a time."""
    return run(tmp_path_factory.mktemp("alone"), Shape(1, 1, 0))


def as_bytes(query: Query) -> tuple:
    arrays = (query.centres, query.boxes, query.inside, query.scores)
    return query.index, query.image_id, *(None if each is None else each.tobytes() for each in arrays)


@pytest.mark.parametrize("shape", [Shape(1, 3, 2), Shape(2, 2, 0), Shape(3, 1, 1), Shape(4, 3, 0)], ids=str)
def test_every_strategy_asks_the_same(tmp_path: Path, alone: dict[str, list[list[Query]]], shape: Shape) -> None:
    found = run(tmp_path, shape)
    assert found.keys() == alone.keys()
    other = [
        f"{case}, round {number}"
        for case in alone
        for number, (ours, theirs) in enumerate(zip(alone[case], found[case], strict=True), start=1)
        if list(map(as_bytes, ours)) != list(map(as_bytes, theirs))
    ]
    assert not other


class Counted(Callback):
    """Notes how many pixels each evaluation counted over all processes, and what was queried."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pixels = folder, []

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        compute = module.confusion.compute

        def noting() -> torch.Tensor:
            counts = compute()
            self.pixels.append(int(counts.sum()))
            return counts

        module.confusion.compute = noting

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        (self.folder / f"pixels_{trainer.global_rank}.json").write_text(json.dumps(self.pixels))


def fit(folder: Path) -> None:
    torch.set_num_threads(1)
    data = ActiveDataModule(tiny.Blocks("source", 1), tiny.Blocks("target!", 2), tiny.Blocks("val", 1), batch_size=2)
    active = tiny.loop(folder / "labels", data)
    trainer = tiny.trainer(folder, active, Counted(folder), devices=3, strategy="ddp_fork")
    trainer.fit(tiny.module(), datamodule=data)


def test_a_run_on_more_processes_than_images(tmp_path: Path) -> None:
    """One image to evaluate, one source image and two of the target: every process takes part in everything."""
    start(__file__, tmp_path)
    labelled = int((tiny.Blocks("val", 1).label(0) != 255).sum())
    for rank in range(3):
        assert json.loads((tmp_path / f"pixels_{rank}.json").read_text()) == [labelled] * 3
    store = LabelStore.open(tmp_path / "labels")
    assert len(store.rounds) == 2
    assert sorted(store.queried_images) == tiny.Blocks("target!", 2).ids


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if len(sys.argv) == 2:
        fit(folder)
    else:
        shape = Shape(*map(int, sys.argv[2:]))
        if shape.workers and shape.ranks > 1:
            program = os.getpid()
            os.register_at_fork(after_in_child=lambda: os.getppid() == program and fork_server.spare_for_loaders())
        on_ranks(folder, shape.ranks, Ask(folder, shape))
