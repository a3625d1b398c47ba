"""Strategies compared with one checkpoint: rebuild network and data, let each strategy pick once, count, save."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from ripu_lightning.acquisition import Budget, Strategy, list_strategies
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.errors import UserError, suggest
from ripu_lightning.experiment.build import build, build_strategy, path_in
from ripu_lightning.experiment.checkpoints import PLAIN, load_checkpoint
from ripu_lightning.experiment.config_keys import errors_name_keys
from ripu_lightning.experiment.evaluate import build_tester, changed, require_classes, restore
from ripu_lightning.experiment.output_folders import COMPARISON, require_free
from ripu_lightning.experiment.targets import require_resolved
from ripu_lightning.labels import LabelStore
from ripu_lightning.report.replay.comparison_files import Comparison, ReplayPictures, write_comparison
from ripu_lightning.report.replay.replay_callback import Replay
from ripu_lightning.report.result import code_version
from ripu_lightning.training.feasibility import check_pool
from ripu_lightning.training.pool_inference import require_dropout

Item = TypeVar("Item")
PLAIN_PASS = {"_target_": "ripu_lightning.evaluation.Inference"}
"""The network's errors are those of the predictions that acquisition sees."""


def compare(config: DictConfig, folder: Path, options: Mapping[str, Mapping[str, Any]]) -> Comparison | None:
    """Let ``config.strategies`` pick once each on the target's pool with ``config.checkpoint``.

    Leaves ``compare.json``, ``compare.csv``, ``agreement.png``, ``classes.png`` and ``pictures`` in the folder.

    Args:
        config: of ``ripu-compare`` (``compose([...], "compare")``).
        folder: of the results; made if missing.
        options: config group ``strategy``: the config of each of its options, unresolved.

    Returns:
        The comparison; None on ranks above zero.

    Raises:
        UserError: no such checkpoint or strategy, or a strategy that the checkpoint or the budget does not allow.
    """
    with errors_name_keys(config):
        return _compare(config, folder, options)


def _compare(config: DictConfig, folder: Path, options: Mapping[str, Mapping[str, Any]]) -> Comparison | None:
    names, lenient = _names(config.strategies, options), config.strategies == "all"
    path = path_in(config, "checkpoint")
    require_free(folder, COMPARISON)
    checkpoint = load_checkpoint(path)
    trained = checkpoint["hyper_parameters"]["config"]
    require_resolved(trained, f"checkpoint: {path}")
    config.parity = _parity(trained, path)
    budget = build(config, "budget")
    strategies = _kept(names, lambda name: _strategy(config, name, options), lenient)
    unread = {"target_eval", "source"}
    if any("source_statistics" in each.requires for each in strategies.values()):
        unread.remove("source")
    training = changed(path, trained, config.data, {}, config.trust, unread)
    datamodule = _data(training, with_source="source" not in unread)
    require_classes(checkpoint, datamodule.classes, path, "target", config.data)
    training.evaluation = PLAIN_PASS
    module = restore(training, datamodule, checkpoint, path)

    def checked(name: str) -> Strategy:
        with errors_name_keys(config):
            check_pool(strategies[name], budget, datamodule)
        require_dropout(strategies[name], module)
        return strategies[name]

    strategies = _kept(strategies, checked, lenient)
    if not strategies:
        raise UserError("strategies: none of them can be compared here, see above")
    labels = None if config.labels is None else path_in(config, "labels", "folder")
    with _store(labels, datamodule) as store:
        _require_round(store, budget, labels, datamodule.target.ids)
        datamodule.cache.check(datamodule.target)
        pictures = ReplayPictures(folder / "pictures", datamodule.target, config.pictures)
        twice = config.parity.get("resize_twice") is True
        window = build(config, "scoring") or None
        replay = Replay(datamodule, strategies, budget, store, trained["seed"], twice, window, pictures)
        build_tester(config.trainer, training, folder, [replay]).test(module, datamodule=datamodule, verbose=False)
        if replay.counts is None:  # not on rank 0
            return None
        about = {
            "checkpoint": str(path),
            "step": checkpoint.get("global_step"),
            "code": code_version(),
            "data": datamodule.cache.content(datamodule.target),
            "round": len(store.rounds) + 1,
            "budget": asdict(budget),
        }
        found = Comparison.of(replay.counts, replay.seconds, datamodule.classes.names, about)
        write_comparison(found, folder)
        return found


def _names(given: Any, options: Mapping[str, Any]) -> list[str]:
    """The strategies that the config names, each once. Raises UserError for an unknown one."""
    known = sorted({*options, *list_strategies()} - {"registered"})
    if given == "all":
        return known
    names = [given] if isinstance(given, str) else list(given or [])
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"strategies: expected a list of strategies such as [ripu,random], or all; got {given}")
    for name in names:
        if name not in known:
            raise UserError(f"strategies: no strategy {name!r}; {suggest(name, known)}")
    return list(dict.fromkeys(names))


def _strategy(config: DictConfig, name: str, options: Mapping[str, Mapping[str, Any]]) -> Strategy:
    """A strategy with its own options, and with the region type and selection rule that the config chose for all."""
    chosen = options.get(name) or {**options["registered"], "name": name}
    return build_strategy(OmegaConf.create({**config, "strategy": chosen}))


def _parity(trained: Mapping[str, Any], name: Path) -> dict[str, Any]:
    """How the run of the checkpoint scored; nothing in it can name a class."""
    parity = trained.get("parity", {"eps": 0.0, "exhausted": "stop"})
    if not isinstance(parity, Mapping) or not all(type(value) in PLAIN for value in parity.values()):
        raise UserError(f"checkpoint: {name} has no plain values in its config's parity; no ripu-train wrote it")
    return dict(parity)


def _kept(names: Iterable[str], make: Callable[[str], Item], lenient: bool) -> dict[str, Item]:
    """What ``make`` gives for each name; if ``lenient``, without those that it refuses, which are reported."""
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
    """The target's pool as what is tested; the source only if a strategy learns from it."""
    target = build(training, "data.target")
    if not target.has_labels:
        raise UserError("data.target: has no labels, by which strategies are measured; add +data.target.labels=...")
    training.data.target_labels = "queried"
    source = build(training, "data.source") if with_source and training.data.source else None
    datamodule: ActiveDataModule = build(training, "data", source=source, target=target, target_eval=target)
    return datamodule


@contextmanager
def _store(labels: Path | None, datamodule: ActiveDataModule) -> Iterator[LabelStore]:
    """The store of the labels so far, or an empty one."""
    target, classes = datamodule.target, datamodule.classes
    images = {image_id: target.size(index) for index, image_id in enumerate(target.ids)}
    if labels is not None:
        yield LabelStore.open(labels, classes=classes, images=images)
        return
    with (
        TemporaryDirectory(prefix="ripu-compare-") as empty,
        LabelStore.create_or_open(empty, classes=classes, images=images) as store,
    ):
        yield store


def _require_round(store: LabelStore, budget: Budget, labels: Path | None, ids: Sequence[str]) -> None:
    done = len(store.rounds)
    if done >= budget.rounds:
        spent = f"{labels} holds {done} already" if labels else "no round would be compared"
        raise UserError(
            f"budget.rounds: {budget.rounds}, but {spent}; give {done + 1} or more, one of which is compared"
        )
    if not any(store.available(image_id).any() for image_id in ids):
        raise UserError(
            f"labels: {labels} has all pixels of the pool already; roll back a round (ripu-labels rollback)"
        )
