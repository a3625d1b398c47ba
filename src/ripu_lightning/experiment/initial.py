"""The weights a run starts from: those of a checkpoint, or of an experiment that is trained first."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ripu_lightning.errors import UserError
from ripu_lightning.experiment.build import path_in
from ripu_lightning.experiment.checkpoints import load_checkpoint, network_state, trained_classes
from ripu_lightning.experiment.recorded_config import recorded
from ripu_lightning.networks.weights import read_entries
from ripu_lightning.report.data_record import POOL, Record, refuse_other_data
from ripu_lightning.report.result import decisive
from ripu_lightning.training import SegmentationModule
from ripu_lightning.untrusted import read_config

SHARED = {"data", "dataset", "network", "parity", "trainer", "logger", "debug", "seed", "pictures", "per_class"}
"""Groups and keys whose overrides hold for both steps of a run that has two."""
FirstStep = Callable[[str, Path], None]
"""Trains the experiment of that name in that folder."""


def initial_weights(config: DictConfig, folder: Path, first_step: FirstStep | None, data: Record) -> Path | None:
    """The checkpoint to start from, after training it if ``pretrain`` names an experiment; None for none.

    ``data`` are the run's, which the first step must share.

    Raises:
        UserError: both are given, or nobody can train the first step.
    """
    if config.pretrain is None:
        return None if config.initial is None else path_in(config, "initial")
    if config.initial is not None:
        raise UserError("initial: pretrain makes the initial weights; give one of the two (pretrain=null)")
    first = folder / "pretrain"
    if not is_finished(first):
        if first_step is None:
            raise UserError(
                f"pretrain: a composed config does not say how to train {config.pretrain} first; give run_experiment "
                "the list of overrides, or train it and set initial=CHECKPOINT and pretrain=null"
            )
        print(f"first step: experiment={config.pretrain} in {first}", flush=True)
        first_step(config.pretrain, first)
    require_same(config, read_config(first / "config.yaml"), first)
    refuse_other_data(first, {name: part for name, part in data.items() if name == POOL}, {})
    return first / "checkpoints" / "last.ckpt"


def shared_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that hold for both steps.

    >>> shared_overrides(["strategy=ripu", "+data.source.root=x", "dataset@data.source=gtav"])
    ['+data.source.root=x', 'dataset@data.source=gtav']
    """
    return [item for item in overrides if _group(item) in SHARED]


def load_initial(module: SegmentationModule, path: Path | None) -> None:
    """Fill the network, and nothing else, with a checkpoint's weights; None leaves it unchanged.

    Raises:
        UserError: no checkpoint, or one of another network or other classes.
    """
    if path is None:
        return
    checkpoint = load_checkpoint(path)
    known = trained_classes(checkpoint).names
    if list(known) != module.classes:
        raise UserError(f"initial: {path} was trained for the classes {', '.join(known)}, not {module.classes}")
    # This argument changes what a network of the same weights computes.
    mine = module.hparams["config"].get("network", {}).get("batchnorm_eps")
    given = checkpoint["hyper_parameters"]["config"]["network"].get("batchnorm_eps")
    if mine != given:
        raise UserError(
            f"initial: the network in {path} has batchnorm_eps={given}, this run's has {mine}; "
            f"add network.batchnorm_eps={'null' if given is None else given}"
        )
    try:
        module.network.load_state_dict(network_state(checkpoint))
    except RuntimeError as error:
        raise UserError(
            f"initial: the weights in {path} are those of another network than network=... builds"
        ) from error


def require_same(config: DictConfig, first: Mapping[str, Any], folder: Path) -> None:
    """Refuse a first step of another network, target or seed; raises :class:`UserError`."""
    ours, theirs = decisive(recorded(config)), decisive(first)
    for key in sorted(ours.keys() & theirs.keys() - {"data.target.root"}):
        if key.startswith(("network.", "data.target.", "seed")) and ours[key] != theirs[key]:
            raise UserError(
                f"pretrain: the first step in {folder} was trained with {key}={theirs[key]}, this run has {ours[key]}; "
                "choose another output, or remove that folder"
            )


def is_finished(folder: Path) -> bool:
    """Whether a run's folder holds the checkpoint of its last step."""
    config, checkpoint = folder / "config.yaml", folder / "checkpoints" / "last.ckpt"
    if not (config.is_file() and checkpoint.is_file()):
        return False
    schedule, done = read_config(config).get("schedule"), read_entries(checkpoint, "pretrain").get("global_step")
    steps = schedule.get("steps") if isinstance(schedule, dict) else None
    # If the folder is damaged, the first step itself reports why it cannot resume.
    return isinstance(steps, int) and isinstance(done, int) and done >= steps


def _group(override: str) -> str:
    """``data`` for ``+data.source.root=x``, ``dataset`` for ``dataset@data.source=x``."""
    key = override.lstrip("+~").split("=")[0]
    for separator in (".", "@", "/"):
        key = key.split(separator)[0]
    return key
