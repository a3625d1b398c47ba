"""Strategies beside each other: rebuild network and data from a checkpoint, let each pick, count, print, save."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from ripu_lightning.acquisition import Budget, Strategy, list_strategies
from ripu_lightning.cli.build import build, build_strategy
from ripu_lightning.cli.checkpoints import PLAIN, load_checkpoint
from ripu_lightning.cli.evaluation import changed, require_classes, restore, tester
from ripu_lightning.cli.targets import require_resolved
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.errors import UserError, suggest
from ripu_lightning.labels import LabelStore
from ripu_lightning.report.replay.callback import Replay
from ripu_lightning.report.replay.drawing import Composites
from ripu_lightning.report.replay.files import Comparison, print_comparison, write_comparison
from ripu_lightning.report.result import code_version
from ripu_lightning.training.passes import require_dropout
from ripu_lightning.training.plan import check_data

Item = TypeVar("Item")
PLAIN_PASS = {"_target_": "ripu_lightning.evaluation.Inference"}
"""The network's errors are those of the predictions that acquisition sees."""


def compare_strategies(config: DictConfig) -> None:
    """Let ``config.strategies`` pick once each on the target's pool with ``config.checkpoint``.

    Leaves ``compare.json``, ``compare.csv``, ``agreement.png``, ``classes.png`` and ``pictures`` in the output folder.

    Raises:
        UserError: no such checkpoint or strategy, or one that can not be asked.
    """
    names, lenient = _names(config.strategies), config.strategies == "all"
    checkpoint = load_checkpoint(Path(config.checkpoint))
    trained = checkpoint["hyper_parameters"]["config"]
    require_resolved(trained, f"checkpoint: {config.checkpoint}")
    config.parity = _parity(trained, config.checkpoint)
    budget = build(config, "budget")
    strategies = _kept(names, lambda name: _strategy(config, name), lenient)
    unread = {"target_eval", "source"}
    if any("source_statistics" in each.needs for each in strategies.values()):
        unread.remove("source")
    training = changed(config, trained, unread)
    datamodule = _data(training, with_source="source" not in unread)
    require_classes(checkpoint, datamodule.classes.names, config.checkpoint)
    training.evaluation = PLAIN_PASS
    module = restore(training, datamodule, checkpoint, config.checkpoint)

    def checked(name: str) -> Strategy:
        check_data(strategies[name], budget, datamodule)
        require_dropout(strategies[name], module)
        return strategies[name]

    strategies = _kept(strategies, checked, lenient)
    if not strategies:
        raise UserError("strategies: none of them can be asked here, see above")
    with _store(config.labels, datamodule) as store:
        _require_round(store, budget, config.labels, datamodule.target.ids)
        datamodule.cache.check(datamodule.target)
        folder = Path(HydraConfig.get().runtime.output_dir)
        composites = Composites(folder / "pictures", datamodule.target, config.pictures)
        twice = config.parity.get("resize_twice") is True
        replay = Replay(datamodule, strategies, budget, store, trained["seed"], twice, composites)
        tester(config, training, folder, [replay]).test(module, datamodule=datamodule, verbose=False)
        if replay.counts is not None:  # on rank 0
            about = {
                "checkpoint": str(config.checkpoint),
                "step": checkpoint.get("global_step"),
                "code": code_version(),
                "data": datamodule.cache.content(datamodule.target),
                "round": len(store.rounds) + 1,
                "budget": asdict(budget),
            }
            found = Comparison.of(replay.counts, replay.seconds, datamodule.classes.names, about)
            write_comparison(found, folder)
            print_comparison(found)
            print(f"written to {folder}")


def _names(given: Any) -> list[str]:
    """The strategies that the command names, each once.

    Raises:
        UserError: an unknown one.
    """
    known = _known_names()
    if given == "all":
        return known
    names = list(given) if isinstance(given, ListConfig) else [given]
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"strategies: expected a list of strategies such as [ripu,random], or all; got {given}")
    for name in names:
        if name not in known:
            raise UserError(f"strategies: no strategy {name!r}; {suggest(name, known)}")
    return list(dict.fromkeys(names))


def _options() -> list[str]:
    return list(GlobalHydra.instance().config_loader().get_group_options("strategy"))


def _known_names() -> list[str]:
    return sorted({*_options(), *list_strategies()} - {"registered"})


def _strategy(config: DictConfig, name: str) -> Strategy:
    """A strategy with its own options, and with the geometry and selection that the command chose for all."""
    known = name in _options()
    part = hydra.compose(f"strategy/{name if known else 'registered'}")
    whole = OmegaConf.create({**config, **part})
    if not known:
        whole.strategy.name = name
    return build_strategy(whole)


def _parity(trained: Mapping[str, Any], name: str) -> dict[str, Any]:
    """How the run of the checkpoint scored; nothing in it can name what is to be built."""
    parity = trained.get("parity", {"eps": 0.0, "exhausted": "stop"})
    if not isinstance(parity, Mapping) or not all(type(value) in PLAIN for value in parity.values()):
        raise UserError(f"checkpoint: {name} has no plain values in its config's parity; no ripu-train wrote it")
    return dict(parity)


def _kept(names: Iterable[str], make: Callable[[str], Item], lenient: bool) -> dict[str, Item]:
    """What ``make`` gives for each name; where ``lenient``, without those that it refuses, which are told."""
    kept = {}
    for name in names:
        try:
            kept[name] = make(name)
        except UserError as error:
            if not lenient:
                raise
            rank_zero_only(print)(f"left out: {name} ({error})")
    return kept


def _data(training: DictConfig, with_source: bool) -> ActiveDataModule:
    """The target's pool as what is tested; the source only where a strategy learns from it."""
    target = build(training, "data.target")
    if not target.has_labels:
        raise UserError("data.target: has no labels, by which strategies are measured; add +data.target.labels=...")
    training.data.target_labels = "bought"
    source = build(training, "data.source") if with_source and training.data.source else None
    datamodule: ActiveDataModule = build(training, "data", source=source, target=target, target_eval=target)
    return datamodule


@contextmanager
def _store(labels: str | None, datamodule: ActiveDataModule) -> Iterator[LabelStore]:
    """The store of what was bought, or an empty one."""
    target, classes = datamodule.target, datamodule.classes.names
    images = {image_id: target.size(index) for index, image_id in enumerate(target.ids)}
    if labels is not None:
        yield LabelStore.open(labels, classes=classes, images=images)
        return
    with (
        TemporaryDirectory(prefix="ripu-compare-") as empty,
        LabelStore.create_or_open(empty, classes=classes, images=images) as store,
    ):
        yield store


def _require_round(store: LabelStore, budget: Budget, labels: str | None, ids: Sequence[str]) -> None:
    done = len(store.rounds)
    if done >= budget.rounds:
        spent = f"{labels} holds {done} already" if labels else "there is nothing to buy"
        raise UserError(
            f"budget.rounds: {budget.rounds}, but {spent}; give {done + 1} or more, one of which is compared"
        )
    if not any(store.available(image_id).any() for image_id in ids):
        raise UserError(
            f"labels: {labels} has all pixels of the pool already; roll back a round (ripu-labels rollback)"
        )
