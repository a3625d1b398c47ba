"""Evaluation of a checkpoint: rebuild network and data from the config inside it, count, print, save."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ripu_lightning.cli.build import build, build_module
from ripu_lightning.errors import UserError
from ripu_lightning.evaluation.predictions import SavePredictions
from ripu_lightning.report.table import print_iou
from ripu_lightning.training.module import SegmentationModule


def evaluate_checkpoint(config: DictConfig) -> None:
    """Evaluate ``config.checkpoint`` on the target's evaluation split.

    Leaves ``iou.json`` and, if asked, ``predictions/ID.png`` in the output folder.

    Raises:
        UserError: no such checkpoint, or one that does not fit the data.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    checkpoint = load_checkpoint(Path(config.checkpoint))
    training = OmegaConf.create(checkpoint["hyper_parameters"]["config"])
    for key, change in config.data.items():
        # A part that names its own class replaces the checkpoint's; anything else changes single values of it.
        whole = OmegaConf.is_dict(change) and "_target_" in change
        OmegaConf.update(training.data, str(key), change, merge=not whole)
    # Only the evaluation split is opened: what the network was trained on need not be on this machine.
    training.data.source, training.data.target = None, training.data.target_eval
    datamodule = build(training, "data")
    _require_classes(checkpoint, datamodule.classes.names, config.checkpoint)
    datamodule.target_eval.check()
    module = restore(training, datamodule, checkpoint, config.checkpoint)
    callbacks = [SavePredictions(folder / "predictions", datamodule.classes.palette())] if config.predictions else []
    trainer = build(
        config,
        "trainer",
        callbacks=callbacks,
        logger=False,
        default_root_dir=str(folder),
        use_distributed_sampler=False,
    )
    metrics = trainer.test(module, datamodule=datamodule, verbose=False)[0]
    if trainer.is_global_zero:
        _report(metrics, folder)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of :class:`SegmentationModule`, read without executing anything in it."""
    if not path.is_file():
        raise UserError(f"checkpoint: no file {path}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"], checkpoint["hyper_parameters"]["config"]["network"]
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"checkpoint: {path} is no checkpoint written by ripu-train, or it is damaged") from error
    return checkpoint


def restore(training: DictConfig, datamodule: Any, checkpoint: dict[str, Any], name: str) -> SegmentationModule:
    """The module of a checkpoint with its weights."""
    module = build_module(training, datamodule, bare=True)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UserError(f"checkpoint: the weights in {name} do not fit the network in its own config") from error
    return module


def _require_classes(checkpoint: dict[str, Any], classes: tuple[str, ...], name: str) -> None:
    trained = checkpoint["hyper_parameters"]["classes"]
    if list(trained) != list(classes):
        raise UserError(
            f"checkpoint: {name} was trained for {len(trained)} classes ({', '.join(trained)}), but the data have "
            f"{len(classes)} ({', '.join(classes)}); evaluate it on data with its own class map"
        )


def _report(metrics: dict[str, float], folder: Path) -> None:
    prefix = "test/iou/"
    iou = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
    miou = metrics["test/miou"]
    finite = {name: value if value == value else None for name, value in iou.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "iou.json").write_text(json.dumps({"miou": miou, "iou": finite}, indent=2) + "\n", encoding="utf-8")
    print_iou(iou, miou)
    print(f"written to {folder}")
