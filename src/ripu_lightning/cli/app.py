"""What every command shares: Hydra as the door, and one line instead of a traceback for a user's mistake."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ripu_lightning.cli.apart import follow_parent
from ripu_lightning.cli.launching import explain_submission, launcher, require_fitting_launch
from ripu_lightning.cli.values import check_values
from ripu_lightning.errors import DISK_FULL, UserError, suggest
from ripu_lightning.signals import SIGNALS, let_through

WAITS = 3
"""Exit code of a run that waits for answers."""
FROM_CHECKPOINT = {"evaluate": ("data.", "evaluation."), "compare": ("data.",)}
"""Command -> keys that are the checkpoint's, and that the command changes with a plus in front."""
EXTRAS = {"submitit_local": "cluster", "submitit_slurm": "cluster", "joblib": "joblib", "optuna": "optuna"}
"""What Hydra runs or chooses jobs by -> the extra that brings it."""


def conf_dir() -> Path:
    """The folder of configs: inside an installed wheel, beside ``src`` in a clone."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def run(config_name: str, job: Callable[[DictConfig], None], part: Callable[[DictConfig], str] | None = None) -> None:
    """Compose the config from the command line and run ``job``; mistakes print one line and exit with 1, a run
    that waits for answers exits with 3.

    Set ``HYDRA_FULL_ERROR=1`` to see the whole traceback of a mistake.

    Args:
        config_name: a file of the configs' folder.
        job: what the command does.
        part: the key of the only part of the config that must have all its values; by default all of it must.
    """
    outside = os.environ.get("HYDRA_FULL_ERROR", "0")
    wants_traceback = outside not in {"", "0"}
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would swallow the exception and print its own lines

    def fail(error: Exception | KeyboardInterrupt) -> None:
        if isinstance(error, KeyboardInterrupt):
            print("\ninterrupted", file=sys.stderr)
            _leave(128 + signal.SIGINT)
        line = explain(error, config_name)
        if line is None or wants_traceback:
            raise error
        code = next((cause.exit_code for cause in _causes(error) if isinstance(cause, UserError)), 1)
        # On a line of its own, below a progress bar. A run that waits has not failed.
        print(f"\nerror: {line}" if code == 1 else line, file=sys.stderr if code == 1 else sys.stdout)
        _leave(code)

    def checked(config: DictConfig) -> float | None:
        settings = HydraConfig.get()
        if settings.mode == RunMode.MULTIRUN:
            from ripu_lightning.cli.sweep_job import run_job

            return run_job(config, {**os.environ, "HYDRA_FULL_ERROR": outside})
        os.environ["HYDRA_FULL_ERROR"] = outside  # processes that the job starts shall not inherit ours
        try:
            require_values(config, part(config) if part else "")
            check_values(config)
            require_fitting_launch(config, [*settings.overrides.task, *settings.overrides.hydra])
            job(config)
        except (Exception, KeyboardInterrupt) as error:
            _remove_empty(Path(settings.runtime.output_dir))
            fail(error)  # here and not outside, because Hydra would announce the error with lines of its own
        except SystemExit as error:
            sys.exit(_exit_code(error))
        return None

    follow_parent()
    if int(os.environ.get("LOCAL_RANK", 0)) and launcher() is None:
        for signum in SIGNALS:  # the first rank decides, and would be killed by Lightning if this one just ended
            signal.signal(signum, signal.SIG_IGN)
        let_through()
    from ripu_lightning.cli.sweep import watched  # imports take a while, in which a signal would end this process

    try:
        with watched():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(checked)()
    except (Exception, KeyboardInterrupt) as error:
        fail(error)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = outside


def _leave(code: int) -> NoReturn:
    if code > 128:  # asked to end, which it does: a Ctrl-C that comes again shall not change how
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _exit_code(error: SystemExit) -> int | str | None:
    """The signal's, where Lightning ends an evaluation that was asked to stop with 1 or 0."""
    if isinstance(error.__context__, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return 128 + signal.SIGTERM if type(error).__name__ == "SIGTERMException" else error.code


def require_values(config: DictConfig, part: str = "") -> None:
    """Refuse a config with values still missing (``???``) or references that lead nowhere, before torch is loaded.

    Args:
        config: the whole config.
        part: look at this key alone, and at what it refers to.
    """
    chosen = OmegaConf.select(config, part) if part else config
    missing = list(_missing(chosen, f"{part}." if part else ""))
    if missing:
        raise UserError(f"{missing[0]} has no value; add {missing[0]}=... to the command")
    try:
        OmegaConf.to_container(chosen, resolve=True)
    except OmegaConfBaseException as error:
        unset = re.search(r"Environment variable '(\w+)' not found", str(error))
        if unset:
            raise UserError(f"{error.full_key}: set {unset[1]}, or add {error.full_key}=... to the command") from error
        raise UserError(f"{error.full_key or 'config'}: {_first_line(error)}") from error


def explain(error: BaseException, config_name: str) -> str | None:
    """The line for a user's mistake, or None where it is a fault of the program."""
    for cause in _causes(error):
        if isinstance(cause, UserError):
            return _last_of_worker_traceback(str(cause))
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            return (
                f"{cause.filename or 'a file of the run'} can not be written ({cause.strerror}): free some space "
                "and start the same command again; labels that were bought are safe"
            )
        if isinstance(cause, RuntimeError) and (line := _of_the_machine(str(cause))):
            return line
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is no override that Hydra can read; expected key=value (quote special characters)"
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):
        return "a group can not be null: choose one of its options, or leave it out (--help lists them)"
    if isinstance(error, OSError) and error.filename and not Path(error.filename).is_dir():
        return f"{error.filename}: {error.strerror}; check the path and its permissions"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _bad_override(error, config_name)
    return explain_submission(error)


def _of_the_machine(message: str) -> str | None:
    """What happened to a process, and is nobody's mistake in code or config."""
    worker = re.search(r"DataLoader worker \(pid\S* ([\d, ]+)\).*(?:killed by signal|exited unexpectedly)", message)
    if worker:
        return (
            f"a loader's worker (process {worker[1]}) was killed, mostly for lack of memory: start the same command "
            "again, it goes on; fewer data.num_workers or smaller images need less; bought labels are safe"
        )
    if re.search(r"CUDA out of memory|CUDA error: out of memory|not enough memory: you tried to allocate", message):
        return (
            "out of memory: take a smaller data.batch_size or data.eval_batch_size, smaller data.*_size, or "
            "trainer.precision=bf16-mixed, and start again; bought labels are safe"
        )
    return None


def _remove_empty(folder: Path) -> None:
    """Hydra makes the run's folder before anything is checked; a mistake shall not leave it behind."""
    here = Path.cwd()
    with suppress(OSError):  # another process of the run was quicker, or has something to keep
        for path in (folder, *folder.parents):
            if path == here or any(path.iterdir()):
                return
            path.rmdir()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _missing_option(error: MissingConfigException) -> str:
    name = error.missing_cfg_file
    if not isinstance(name, str) or "/" not in name:
        return _first_line(error)
    group, option = name.rsplit("/", 1)
    if group in {"hydra/launcher", "hydra/sweeper"} and option in EXTRAS:
        return f"{group}={option}: not installed; pip install 'ripu-lightning[{EXTRAS[option]}]'"
    return f"{group}: no option {option!r}; {suggest(option, error.options or ())}"


def _bad_override(error: Exception, config_name: str) -> str:
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found is None:
        return _first_line(error)
    key, known = found.group(1), _known_keys(config_name)
    if key.startswith(FROM_CHECKPOINT.get(config_name, ())):
        return f"{key}: no such key here; +{key}=... with a plus in front changes the checkpoint's own config"
    if key in known:
        return f"{key}: the option chosen for {key.split('.')[0]} has no such key (--help lists all keys)"
    return f"no key {key!r} in the config; {suggest(key, known)} (--help lists all keys)"


def _known_keys(config_name: str) -> list[str]:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return list(_flatten(hydra.compose(config_name)))


def _missing(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config.keys()):
        if OmegaConf.is_missing(config, key):
            yield f"{prefix}{key}"
        elif not OmegaConf.is_interpolation(config, key) and isinstance(config[key], DictConfig):
            yield from _missing(config[key], f"{prefix}{key}.")


def _flatten(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config.keys()):
        name = f"{prefix}{key}"
        yield name
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(config[key], DictConfig):
            yield from _flatten(config[key], f"{name}.")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_of_worker_traceback(message: str) -> str:
    # A DataLoader re-raises a worker's exception with the whole traceback as its message.
    return message.strip().splitlines()[-1].split("UserError: ", 1)[-1]
