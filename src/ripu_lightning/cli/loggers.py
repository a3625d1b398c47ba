"""The loggers of a run: built from the config, opened once the plan is sound, closed with how the run ended."""

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
from pytorch_lightning.utilities import rank_zero_only

from ripu_lightning.acquisition import Budget, Strategy
from ripu_lightning.cli.build import build
from ripu_lightning.errors import UserError
from ripu_lightning.files import replacing
from ripu_lightning.networks.extras import import_extra
from ripu_lightning.report.result import code_version
from ripu_lightning.untrusted import read_bounded

LIMITS = {"WANDB_INIT_TIMEOUT": "30", "WANDB_FINISH_TIMEOUT": "600"}
"""Seconds that a run waits for W&B to begin and to take what is left; the environment may say otherwise."""

_OFFLINE = "logger.wandb.offline=true needs no server"


def build_loggers(config: DictConfig, folder: Path, strategy: Strategy, budget: Budget) -> list[Logger]:
    """Lightning's loggers as configured; nothing is sent yet, and nothing written but MLflow's empty store.

    Args:
        config: of the run.
        folder: the run's; its last two parts name the run, and it knows the run's id from the last time.
        strategy: what the run is tagged with,
        budget: and this.

    Raises:
        UserError: W&B is to be used online, but nobody is logged in; or MLflow is not installed.
    """
    name = "/".join(folder.parts[-2:])
    tags = [strategy.name, f"{budget.unit}={getattr(budget, str(budget.unit))}"] if budget.rounds else ["budget=none"]
    loggers: list[Logger] = []
    for kind in config.logger:
        arguments: dict[str, Any] = {}
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
    """Begin the loggers' runs, with the config and the code's version; end them, marked as failed where an error does.

    Args:
        loggers: of the trainer.
        config: resolved, as plain containers.
        folder: the run's; ids are kept there, so that a run that goes on there is the same run.

    Raises:
        UserError: a logger's server can not be reached, or refuses.
    """
    servers = [logger for logger in loggers if isinstance(logger, (MLFlowLogger, WandbLogger)) and _leads()]
    failed = True
    try:
        for logger in servers:
            _begin(logger, {**config, "code": code_version()}, folder)
        yield
        failed = False
    finally:
        for logger in servers:
            if isinstance(logger, WandbLogger) and logger._experiment is not None:
                # W&B uploads what is left, and a later run of the same process starts a run of its own.
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
            if not known:  # MLflow's parameters can not change
                logger.log_hyperparams(config)
    except Exception as error:
        kind = "wandb" if is_wandb else "mlflow"
        mend = _OFFLINE if is_wandb else "see logger.mlflow.tracking_uri"
        raise UserError(f"logger={kind}: {_first_line(error)}; {mend}") from error
    if is_wandb and "WANDB_RUN_ID" in os.environ:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path, "the labels that were bought are safe") as file:
        file.write(f"{run_id}\n".encode())


def _require_login(offline: bool) -> None:
    """Credentials are looked for and tried; nobody is asked for them."""
    for name, seconds in LIMITS.items():
        os.environ.setdefault(name, seconds)
    if offline or not _leads() or os.environ.get("WANDB_MODE") in {"offline", "dryrun", "disabled"}:
        return
    import wandb

    try:
        with _no_prompt():
            wandb.login()
    except wandb.errors.UsageError as error:
        raise UserError("logger=wandb: not logged in; run wandb login, or add logger.wandb.offline=true") from error
    except wandb.errors.Error as error:
        raise UserError(f"logger=wandb: {_first_line(error)}; {_OFFLINE}") from error


def _wandb_id(folder: Path) -> str | None:
    """The agent's id where there is one, else the run's own, which is a new one at first."""
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
    """No terminal to ask questions at: W&B then says what it lacks."""
    stdin = sys.stdin
    with open(os.devnull) as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = stdin


def _leads() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
