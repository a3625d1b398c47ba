"""The loggers of a run: built from the config, opened after all checks, closed with how the run ended."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, MLFlowLogger, WandbLogger

from ripu_lightning.acquisition import Budget, Strategy
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.build import build
from ripu_lightning.experiment.config_keys import first_line
from ripu_lightning.extras import import_extra
from ripu_lightning.files import replacing
from ripu_lightning.first_rank import leads
from ripu_lightning.report.result import code_version
from ripu_lightning.untrusted import read_bounded

LIMITS = {"WANDB_INIT_TIMEOUT": "30", "WANDB_FINISH_TIMEOUT": "600"}
"""Seconds that a run waits for W&B to begin, and to upload the rest; the environment may set others."""

_OFFLINE = "logger.wandb.offline=true needs no server"


def build_loggers(config: DictConfig, folder: Path, strategy: Strategy, budget: Budget) -> list[Logger]:
    """Lightning's loggers as configured; nothing is sent yet, and only MLflow's empty store is written.

    Strategy and budget are tags of the run, the last two parts of the folder its name. The folder holds the ids of a
    run that resumes.

    Raises:
        UserError: W&B is used online but not logged in; or a logger's package is not installed.
    """
    name = "/".join(folder.parts[-2:])
    tags = [strategy.name, f"{budget.unit}={getattr(budget, str(budget.unit))}"] if budget.rounds else ["budget=none"]
    loggers: list[Logger] = []
    for kind in config.logger:
        arguments: dict[str, Any] = {}
        if kind == "tensorboard":
            import_extra("tensorboard", "tensorboard", "logger=tensorboard")
        if kind == "wandb":
            _require_login(config.logger.wandb.offline)
            arguments = {"name": name, "id": _wandb_id(folder), "tags": [*tags, *config.logger.wandb.tags]}
        if kind == "mlflow":
            import_extra("mlflow", "mlflow", "logger=mlflow")
            arguments = {"run_name": name, "run_id": _known_id(folder, "mlflow"), **_mlflow_place(config, folder)}
        loggers.append(build(config.logger, kind, **arguments))
    return loggers


@contextmanager
def opened(loggers: Sequence[Logger], config: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Begin the loggers' runs, with the config and the code's version; end them, marked as failed after an error.

    Ids are kept in the run's folder, so that a run that resumes is the same run for the server.

    Raises:
        UserError: a logger's server cannot be reached, or refuses.
    """
    servers = [logger for logger in loggers if isinstance(logger, (MLFlowLogger, WandbLogger)) and leads()]
    begun: list[MLFlowLogger | WandbLogger] = []
    failed = True
    try:
        for logger in servers:
            _begin(logger, {**config, "code": code_version()}, folder)
            begun.append(logger)
        yield
        failed = False
    finally:
        for logger in begun:
            if isinstance(logger, WandbLogger):
                # W&B uploads the rest, and a later run of the same process starts a run of its own.
                logger.experiment.finish(exit_code=int(failed))
            elif failed:
                logger.finalize("failed")


def _begin(logger: MLFlowLogger | WandbLogger, config: dict[str, Any], folder: Path) -> None:
    is_wandb = isinstance(logger, WandbLogger)
    path = folder / ("wandb_id" if is_wandb else "mlflow_id")
    known = not is_wandb and path.is_file()
    try:
        with _no_prompt():
            run_id = logger.experiment.id if isinstance(logger, WandbLogger) else logger.run_id
            if not known:  # MLflow's parameters cannot change
                logger.log_hyperparams(config)
    except Exception as error:
        kind = "wandb" if is_wandb else "mlflow"
        fix = _OFFLINE if is_wandb else "see logger.mlflow.tracking_uri"
        raise UserError(f"logger={kind}: {first_line(error)}; {fix}") from error
    if is_wandb and "WANDB_RUN_ID" in os.environ:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path, "all labels are safe") as file:
        file.write(f"{run_id}\n".encode())


def _require_login(offline: bool) -> None:
    """Look for credentials and try them, without a prompt."""
    for name, seconds in LIMITS.items():
        os.environ.setdefault(name, seconds)
    if offline or not leads() or os.environ.get("WANDB_MODE") in {"offline", "dryrun", "disabled"}:
        return
    import wandb

    try:
        with _no_prompt():
            wandb.login()
    except wandb.errors.UsageError as error:
        raise UserError("logger=wandb: not logged in; run wandb login, or add logger.wandb.offline=true") from error
    except wandb.errors.Error as error:
        raise UserError(f"logger=wandb: {first_line(error)}; {_OFFLINE}") from error


def _wandb_id(folder: Path) -> str | None:
    """The id that an agent gave, or the run's own, which is a new one at first."""
    if "WANDB_RUN_ID" in os.environ:
        return None
    return _known_id(folder, "wandb") or token_hex(4)


def _mlflow_place(config: DictConfig, folder: Path) -> dict[str, str]:
    """A store in the run's folder, unless the config or the environment names one."""
    if config.logger.mlflow.tracking_uri is not None:
        return {}
    return {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "artifact_location": (folder / "mlflow").as_uri()}


def _known_id(folder: Path, kind: str) -> str | None:
    path = folder / f"{kind}_id"
    if not path.is_file():
        return None
    text = read_bounded(path, 100).decode(errors="replace").strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise UserError(f"{path}: holds no run's id; remove it to log as a new run")
    return text


@contextmanager
def _no_prompt() -> Iterator[None]:
    """Without a terminal W&B reports what it lacks instead of a prompt."""
    stdin = sys.stdin
    with open(os.devnull) as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = stdin
