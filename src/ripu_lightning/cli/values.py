"""Checks of a composed config's plain values: types and ranges, before torch is loaded."""

from omegaconf import DictConfig, OmegaConf

from ripu_lightning.errors import UserError

# Key -> (kind, least value); what is not listed here is checked by the class that takes it.
NUMBERS: dict[str, tuple[type, float]] = {
    "seed": (int, 0),
    "pictures": (int, 0),
    "checkpoint_every": (int, 1),
    "rank_patience": (float, 0),
    "schedule.steps": (int, 1),
    "schedule.first_round": (int, 0),
    "schedule.interval": (int, 1),
    "schedule.horizon": (int, 1),
    "budget.rounds": (int, 0),
    "budget.clicks": (int, 1),
    "budget.images": (int, 1),
    "budget.pixels": (int, 1),
    "budget.ratio": (float, 0),
    "budget.regions": (int, 1),
    "geometry.compactness": (float, 0),
    "geometry.exclusion": (int, 0),
    "geometry.radius": (int, 0),
    "geometry.segments": (int, 1),
    "selection.share": (float, 0),
    "selection.shortlist": (int, 1),
    "strategy.anchors": (int, 1),
    "strategy.balance": (float, 0),
    "strategy.curvature": (float, 0),
    "strategy.eps": (float, 0),
    "strategy.radius": (int, 0),
    "strategy.samples": (int, 1),
    "strategy.share": (float, 0),
    "network.batchnorm_eps": (float, 0),
    "network.dropout": (float, 0),
    "optimizer.lr": (float, 0),
    "optimizer.head_factor": (float, 0),
    "optimizer.momentum": (float, 0),
    "optimizer.weight_decay": (float, 0),
    "optimizer.power": (float, 0),
    "trainer.gradient_clip_val": (float, 0),
    "data.batch_size": (int, 1),
    "data.eval_batch_size": (int, 1),
    "data.num_workers": (int, 0),
}
SWITCHES = ("per_class", "parity.resize_twice", "optimizer.freeze_batchnorm", "trainer.enable_progress_bar")
FILES = {"checkpoint": False, "to": False, "initial": True, "labels": True}
"""Key of a file's or folder's path -> whether it may be null."""
PARTIAL = (
    "check_val_every_n_epoch",
    "fast_dev_run",
    "limit_test_batches",
    "limit_train_batches",
    "limit_val_batches",
    "max_steps",
    "max_time",
    "overfit_batches",
    "val_check_interval",
)
"""Arguments of Lightning's trainer that look at a part of the data, or do not look in time."""


def check_values(config: DictConfig) -> None:
    """Refuse numbers, switches and files that can not be, and what would make figures of other data than they say.

    Raises:
        UserError: naming the key.
    """
    for key, (kind, least) in NUMBERS.items():
        value = OmegaConf.select(config, key)
        if value is None:
            continue
        number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        if not number or not value >= least:
            noun = "a whole number" if kind is int else "a number"
            raise UserError(f"{key}: expected {noun} of {least} or more, got {value!r}")
    for key in SWITCHES:
        if not isinstance(OmegaConf.select(config, key), bool | None):
            raise UserError(f"{key}: expected true or false, got {OmegaConf.select(config, key)!r}")
    for key, optional in FILES.items():
        if key in config and not isinstance(config[key], str) and not (optional and config[key] is None):
            noun = "a folder" if key == "labels" else "a file"
            raise UserError(f"{key}: expected {noun}, got {config[key]!r}")
    for key in PARTIAL:
        if OmegaConf.select(config, f"trainer.{key}") is not None:
            raise UserError(
                f"trainer.{key}: leave it out, as figures are of the whole split and stages of all their steps; for a "
                "quick try take less data, or fewer schedule.steps"
            )
    if OmegaConf.select(config, "schedule") is not None and config.schedule.horizon < config.schedule.steps:
        raise UserError(
            f"schedule.horizon: {config.schedule.horizon} steps, but the run has {config.schedule.steps}; "
            "the learning rate would be 0 before the end"
        )
