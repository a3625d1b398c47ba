"""``ripu-train``: one active-learning experiment."""

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ripu_lightning.cli.app import run
from ripu_lightning.cli.child_process import start_child
from ripu_lightning.cli.overrides import quoted
from ripu_lightning.errors import UserError

RUN_OF_OURS = {"WANDB_RUN_ID", "WANDB_SERVICE", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"}
"""Variables that would have the first step log into this run, or as a run of its W&B sweep."""


def main() -> None:
    """Console entry point."""
    run("train", train)


def train(config: DictConfig, folder: Path) -> None:
    """Run the experiment, print its table, and raise AnswersPending where it waits for people."""
    # Only now, with a valid config, is torch worth loading.
    from ripu_lightning.annotation import AnswersPending
    from ripu_lightning.experiment.build import build
    from ripu_lightning.experiment.loggers import leads
    from ripu_lightning.experiment.run import run_experiment
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
