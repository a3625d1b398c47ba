"""Evaluation of a checkpoint: rebuild network and data from the config inside it, count, save."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import UserError
from ripu_lightning.evaluation.predictions import SavePredictions
from ripu_lightning.experiment.build import build, build_module, build_trainer
from ripu_lightning.experiment.checkpoints import SPENT, load_checkpoint, trained_classes
from ripu_lightning.experiment.config_keys import errors_name_keys
from ripu_lightning.experiment.output_folders import EVALUATION, require_free
from ripu_lightning.experiment.recorded_config import follow_variables
from ripu_lightning.experiment.targets import require_resolved, require_trusted, trusted_packages
from ripu_lightning.report.run_files import write_result
from ripu_lightning.training.module import SegmentationModule

Predictions = Literal["palette", "label_ids"]
TRAINER = {"_target_": "pytorch_lightning.Trainer", "precision": None}


def evaluate(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    data: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    predictions: Predictions | None = "palette",
    trainer: Mapping[str, Any] | None = None,
    trust: Sequence[str] = (),
) -> dict[str, float]:
    """Evaluate a checkpoint on the target's evaluation split.

    Leaves ``result.json`` (if there are labels) and, if wanted, ``predictions`` in the folder.

    Args:
        checkpoint: a file that ``run_experiment`` wrote.
        folder: of the results; made if missing.
        data: changes to the checkpoint's own data config; a part with ``_target_`` replaces the checkpoint's part.
        evaluation: changes to how predictions are made, likewise.
        predictions: ``palette`` saves one PNG an image with class indices in colours, ``label_ids`` one for a test
            server; None saves none.
        trainer: config of Lightning's Trainer.
        trust: packages of others that the checkpoint's config may name.

    Returns:
        The :func:`~ripu_lightning.evaluation.figures`; empty without labels, and on ranks above zero.

    Raises:
        UserError: no such checkpoint, one that does not fit the data, or a folder that holds other results.
    """
    folder, content = Path(folder), load_checkpoint(Path(checkpoint))
    require_free(folder, EVALUATION)
    trained = content["hyper_parameters"]["config"]
    training = changed(checkpoint, trained, data or {}, evaluation or {}, trust, unread={"source", "target"})
    if training.data.target_eval is None:
        raise UserError(
            "data.target_eval: null, nothing to evaluate; give the data, such as +data.target_eval.split=val "
            "(whatever you leave out, such as root and classes, is that of data.target)"
        )
    with errors_name_keys(training):
        # Only the evaluation split is opened: the data that the network was trained on need not be on this machine.
        dataset, training.data.target_labels = build(training, "data.target_eval"), "queried"
        datamodule = build(training, "data", source=None, target=dataset, target_eval=dataset)
        require_classes(content, datamodule.classes, checkpoint, "target_eval", data or {})
        callbacks = _saving(predictions, folder, dataset)
        datamodule.cache.check(dataset)
        module = restore(training, datamodule, content, checkpoint)
        tester = build_tester(trainer or TRAINER, training, folder, callbacks)
        tester.test(module, datamodule=datamodule, verbose=False)
        if not (tester.is_global_zero and module.last_figures):
            return {}
        return write_result(folder, tester, module, datamodule, trained, content["callbacks"][SPENT])


def changed(
    checkpoint: str | Path,
    trained: Mapping[str, Any],
    data: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    trust: Sequence[str],
    unread: Set[str],
) -> DictConfig:
    """The config ``trained`` of a checkpoint with the changes of :func:`evaluate`; their classes need no trust.

    Roots of data follow this machine's environment variables, where the training took them from some. Evaluation data
    of a run without any begin as the target's. Of its ``data``, the keys ``unread`` are not going to be built.

    Raises:
        UserError: it would build an object of a class that is not trusted.
    """
    source = f"checkpoint: {checkpoint}"
    require_resolved(trained, source)
    trained = follow_variables(trained)
    if trained["data"].get("target_eval") is None and data.get("target_eval"):
        trained = {**trained, "data": {**trained["data"], "target_eval": trained["data"]["target"]}}
    named = {str(key) for key, change in data.items() if _names_class(change)}
    kept = {key: value for key, value in trained["data"].items() if key not in named | unread}
    groups = {"network": trained["network"], "loss": trained["loss"], "data": kept}
    if not _names_class(evaluation):
        groups["evaluation"] = trained["evaluation"]
    require_trusted(groups, source, trusted_packages(trust))
    training = OmegaConf.create(dict(trained))
    for key, change in data.items():
        _change(training.data, str(key), change)
    _change(training, "evaluation", evaluation)
    return training


def _names_class(change: Any) -> bool:
    return isinstance(change, Mapping) and "_target_" in change


def _change(config: DictConfig, key: str, change: Any) -> None:
    # A part that names its own class replaces the checkpoint's; anything else changes single values of it.
    OmegaConf.update(config, key, change, merge=not _names_class(change))


def _saving(predictions: Predictions | None, folder: Path, dataset: SegmentationDataset) -> list[Callback]:
    if predictions is not None:
        return [SavePredictions(folder / "predictions", dataset, predictions)]
    if not dataset.has_labels:
        raise UserError("predictions: null, but the data have no labels to count either; choose palette or label_ids")
    return []


def build_tester(trainer: Mapping[str, Any], training: DictConfig, folder: Path, callbacks: list[Callback]) -> Trainer:
    """A trainer that tests, in the precision of the training unless its config gives another one."""
    config = OmegaConf.create({"trainer": trainer})
    precision = config.trainer.precision or training.trainer.precision
    tester: Trainer = build_trainer(config, folder, callbacks=callbacks, logger=False, precision=precision)
    return tester


def restore(
    training: DictConfig, datamodule: Any, checkpoint: Mapping[str, Any], name: str | Path
) -> SegmentationModule:
    """The module of a checkpoint with its weights."""
    module = build_module(training, datamodule, bare=True, trains=False)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UserError(f"checkpoint: the weights in {name} do not fit the network in its own config") from error
    return module


def require_classes(
    checkpoint: Mapping[str, Any], classes: ClassMap, name: str | Path, key: str, changes: Mapping[str, Any]
) -> None:
    """Refuse data whose labels mean something else than the checkpoint's.

    Args:
        checkpoint: see :func:`~ripu_lightning.experiment.checkpoints.load_checkpoint`.
        classes: the class map of the data.
        name: of the checkpoint, for errors.
        key: ``target_eval`` or ``target``, the data's key.
        changes: those of :func:`evaluate` to the data. Only data that they name may have other file ids for the same
            classes; a line says so.

    Raises:
        UserError: naming the first difference.
    """
    trained, config = trained_classes(checkpoint), checkpoint["hyper_parameters"]["config"]["data"]
    difference = trained.difference(classes)
    if not difference:
        return
    given, recorded = changes.get(key), (config.get(key) or {}).get("classes")
    told = isinstance(given, Mapping) and bool({"classes", "_target_"} & given.keys())
    told = told or recorded != config["target"].get("classes")  # the run itself had two maps
    if trained.names != classes.names or not told:
        raise UserError(
            f"data.{key}: its class map is not that of {name} ({difference}); leave +data.{key}.classes out to use the "
            "checkpoint's own, or give labels of the same classes"
        )
    rank_zero_only(print)(f"data.{key}: the class map has the checkpoint's classes, but {difference}")
