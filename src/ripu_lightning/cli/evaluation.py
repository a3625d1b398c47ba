"""Evaluation of a checkpoint: rebuild network and data from the config inside it, count, print, save."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer

from ripu_lightning.cli.build import build, build_module
from ripu_lightning.cli.checkpoints import BOUGHT, load_checkpoint
from ripu_lightning.cli.targets import require_resolved, require_trusted, trusted
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import UserError
from ripu_lightning.evaluation.predictions import SavePredictions
from ripu_lightning.report.files import write_result
from ripu_lightning.report.table import print_figures
from ripu_lightning.training.module import SegmentationModule


def evaluate_checkpoint(config: DictConfig) -> None:
    """Evaluate ``config.checkpoint`` on the target's evaluation split.

    Leaves ``result.json`` (where there are labels) and, if asked, ``predictions`` in the output folder.

    Raises:
        UserError: no such checkpoint, or one that does not fit the data.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    checkpoint = load_checkpoint(Path(config.checkpoint))
    trained = checkpoint["hyper_parameters"]["config"]
    training = changed(config, trained, unread={"source", "target"})
    if training.data.target_eval is None:
        raise UserError("data.target_eval: null, nothing to evaluate; add +data.target_eval={_target_: ...}")
    # Only the evaluation split is opened: what the network was trained on need not be on this machine.
    dataset, training.data.target_labels = build(training, "data.target_eval"), "bought"
    datamodule = build(training, "data", source=None, target=dataset, target_eval=dataset)
    require_classes(checkpoint, datamodule.classes.names, config.checkpoint)
    callbacks = _predictions(config, folder, dataset)
    datamodule.cache.check(dataset)
    module = restore(training, datamodule, checkpoint, config.checkpoint)
    trainer = tester(config, training, folder, callbacks)
    trainer.test(module, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        bought = checkpoint["callbacks"][BOUGHT]
        figures = write_result(folder, trainer, module, datamodule, "test", trained, bought)
        if figures:
            print_figures(figures, module.inference.title)
        else:
            print("the data have no labels: nothing is counted, there are predictions only")
        print(f"written to {folder}")


def changed(config: DictConfig, trained: Mapping[str, Any], unread: Set[str]) -> DictConfig:
    """The checkpoint's config with the command's changes; only what the command names itself is built unseen.

    Args:
        config: of the command.
        trained: of the checkpoint.
        unread: keys of its ``data`` that are not going to be built.

    Raises:
        UserError: it would build what is not trusted.
    """
    source = f"checkpoint: {config.checkpoint}"
    require_resolved(trained, source)
    named = {str(key) for key, change in config.data.items() if _is_whole(change)}
    data = {key: value for key, value in trained["data"].items() if key not in named | unread}
    groups = {"network": trained["network"], "loss": trained["loss"], "data": data}
    if not _is_whole(config.get("evaluation")):
        groups["evaluation"] = trained["evaluation"]
    require_trusted(groups, source, trusted(config))
    training = OmegaConf.create(dict(trained))
    for key, change in config.data.items():
        _change(training.data, str(key), change)
    _change(training, "evaluation", config.get("evaluation") or {})
    return training


def _is_whole(change: Any) -> bool:
    return OmegaConf.is_dict(change) and "_target_" in change


def _change(config: DictConfig, key: str, change: Any) -> None:
    # A part that names its own class replaces the checkpoint's; anything else changes single values of it.
    OmegaConf.update(config, key, change, merge=not _is_whole(change))


def _predictions(config: DictConfig, folder: Path, dataset: SegmentationDataset) -> list[Callback]:
    if config.predictions is not None:
        return [SavePredictions(folder / "predictions", dataset, config.predictions)]
    if not dataset.has_labels:
        raise UserError("predictions: null, but the data have no labels to count either; choose palette or label_ids")
    return []


def tester(config: DictConfig, training: DictConfig, folder: Path, callbacks: list[Callback]) -> Trainer:
    """The trainer of a command that tests, in the precision of the training unless the command says another one."""
    trainer: Trainer = build(
        config,
        "trainer",
        callbacks=callbacks,
        logger=False,
        default_root_dir=str(folder),
        use_distributed_sampler=False,
        precision=config.trainer.precision or training.trainer.precision,
    )
    return trainer


def restore(training: DictConfig, datamodule: Any, checkpoint: Mapping[str, Any], name: str) -> SegmentationModule:
    """The module of a checkpoint with its weights."""
    module = build_module(training, datamodule, bare=True)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UserError(f"checkpoint: the weights in {name} do not fit the network in its own config") from error
    return module


def require_classes(checkpoint: Mapping[str, Any], classes: tuple[str, ...], name: str) -> None:
    """Refuse data of other classes than the checkpoint ``name`` was trained for; raises :class:`UserError`."""
    trained = checkpoint["hyper_parameters"]["classes"]
    if list(trained) != list(classes):
        raise UserError(
            f"checkpoint: {name} was trained for {len(trained)} classes ({', '.join(trained)}), but the data have "
            f"{len(classes)} ({', '.join(classes)}); evaluate it on data with its own class map"
        )
