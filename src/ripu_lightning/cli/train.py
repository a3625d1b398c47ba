"""``ripu-train``: one active-learning experiment."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ripu_lightning.cli.app import run
from ripu_lightning.cli.child_process import start_child
from ripu_lightning.cli.overrides import quoted
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.config_keys import errors_name_keys

if TYPE_CHECKING:
    from ripu_lightning.training.history import RoundRecord

RUN_OF_OURS = {"WANDB_RUN_ID", "WANDB_SERVICE", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"}
"""Variables that would have the first step log into this run, or as a run of its W&B sweep."""


def main() -> None:
    """Console entry point; without arguments it only says how to begin."""
    if len(sys.argv) == 1:
        print_beginning()
    else:
        run("train", train)


def print_beginning() -> None:
    """Say what the default config is, and how to start the demo; nothing is trained or written."""
    from ripu_lightning.cli.compose import compose

    config = compose()
    budget, schedule, target = config.budget, config.schedule, config.data.target
    print(
        "ripu-train needs at least one group=option or key=value; nothing was started.\n\n"
        f"By default it would train network=small on data=streets ({target.length} images of {target.height}x"
        f"{target.width}, drawn by the library),\nand query {100 * budget.ratio:g}% of each image's pixels by "
        f"strategy={config.strategy.name} in {budget.rounds} rounds, within {schedule.steps} steps, into "
        f"runs/{config.name}/TIME.\n\n"
        "  ripu-train experiment=demo        the demo: minutes on two cores\n"
        "  ripu-train data=streets           the default run\n"
        "  ripu-train data=folder data.source.root=SOURCE data.target.root=TARGET data.source.classes=classes.yaml\n"
        "  ripu-train --help                 all groups and keys; --cfg job prints the config"
    )


def train(config: DictConfig, folder: Path) -> None:
    """Run the experiment, print its table, and raise AnswersPending where it waits for people."""
    from ripu_lightning.experiment.complete_runs import complete_history
    from ripu_lightning.experiment.early_checks import check_data, check_values

    with errors_name_keys(config):
        check_values(config)
        check_data(config)
    if history := complete_history(config, folder):
        print_complete(history, config, folder)
        return
    # Only now, with a valid config, is torch worth loading.
    from ripu_lightning.annotation import AnswersPending
    from ripu_lightning.experiment.build import build
    from ripu_lightning.experiment.run import run_experiment
    from ripu_lightning.first_rank import leads
    from ripu_lightning.report.terminal_tables import print_rounds
    from ripu_lightning.training.run_checkpoint import Interrupted

    try:
        result = run_experiment(config, folder, train_first)
    except Interrupted:
        if leads():
            raise
        return  # with an exit code, Lightning would kill rank 0 while it still writes
    if leads():
        print_rounds(result.history, per_class=config.per_class, title=build(config, "evaluation").title)
        print(f"run folder: {folder}")
        if result.pending:
            raise AnswersPending(result.pending)


def print_complete(history: "Sequence[RoundRecord]", config: DictConfig, folder: Path) -> None:
    """Print what a run that is complete has reached."""
    from ripu_lightning.first_rank import leads
    from ripu_lightning.report.terminal_tables import print_rounds

    if leads():
        print_rounds(history, per_class=config.per_class)
        print(f"complete: nothing is left to do in the run folder {folder}")


def train_first(experiment: str, folder: Path) -> None:
    """The first step of a run that has two, in a process of its own: its ranks and loggers do not leak into this run.

    Raises:
        UserError: it failed.
    """
    from ripu_lightning.experiment.initial import shared_overrides

    shared = shared_overrides(HydraConfig.get().overrides.task)
    environment = {key: value for key, value in os.environ.items() if key not in RUN_OF_OURS}
    if start_child([f"experiment={experiment}", *shared, f"output={quoted(folder)}"], environment):
        raise UserError(f"pretrain: the first step failed, see above; its folder is {folder}")


if __name__ == "__main__":
    main()
