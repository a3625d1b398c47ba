"""What the commands share: Hydra reads the command line, and a user's mistake is one line instead of a traceback."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ripu_lightning.cli.child_process import follow_parent
from ripu_lightning.cli.compose import conf_dir, config_loader, explain_composing, load
from ripu_lightning.cli.library_notes import leave_out_library_notes
from ripu_lightning.cli.overrides import keep_text
from ripu_lightning.errors import DISK_FULL, UserError
from ripu_lightning.experiment.config_keys import require_values
from ripu_lightning.experiment.early_checks import require_files
from ripu_lightning.experiment.launching import launcher, require_fitting_launch
from ripu_lightning.signals import SIGNALS
from ripu_lightning.version import __version__

Job = Callable[[DictConfig, Path], None]
"""What a command does: with its config, in the folder of its output."""


def run(config_name: str, job: Job, part: Callable[[DictConfig], str] | None = None) -> None:
    """Compose the config from the command line and run ``job``; mistakes print one line and exit with 1, a run
    that waits for answers exits with 3.

    ``HYDRA_FULL_ERROR=1`` shows the traceback of a mistake.

    Args:
        config_name: a file of the configs' folder.
        job: what the command does.
        part: the key of the only part of the config that must have all its values; by default all of it must.
    """
    print_version("ripu-" + config_name.removesuffix("_tool"))
    outside = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would swallow the exception and print its own lines

    def checked(config: DictConfig) -> float | None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            from ripu_lightning.cli.sweep_job import run_job

            return run_job(config, {**os.environ, "HYDRA_FULL_ERROR": outside})
        os.environ["HYDRA_FULL_ERROR"] = outside  # not for the processes that the job starts
        _run_job(config, job, part)
        return None

    follow_parent()
    if int(os.environ.get("LOCAL_RANK", 0)) and launcher() is None:
        for signum in SIGNALS:  # the first rank decides, and Lightning would kill it if this one just ended
            signal.signal(signum, signal.SIG_IGN)
    from ripu_lightning.cli.sweep import watched  # imports take a while, in which a signal would end this process

    sys.argv[1:] = keep_text(sys.argv[1:])
    try:
        _check_overrides(config_name)
        with watched():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(checked)()
    except (Exception, KeyboardInterrupt) as error:
        _fail(error, wants_traceback=outside not in {"", "0"})
    finally:
        os.environ["HYDRA_FULL_ERROR"] = outside


def _run_job(config: DictConfig, job: Job, part: Callable[[DictConfig], str] | None) -> None:
    """Check the config and do the job in its folder; see :func:`run`."""
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    try:
        require_values(config, part(config) if part else "")
        given = [*settings.overrides.task, *settings.overrides.hydra]
        require_files(config)
        leave_out_library_notes()
        require_fitting_launch(config, any(item.startswith(("output=", "hydra.run.dir=")) for item in given))
        job(config, folder)
    except (Exception, KeyboardInterrupt) as error:
        _remove_empty(folder)
        # Here and not in `run`, because Hydra would announce the error with lines of its own.
        _fail(error, wants_traceback=os.environ["HYDRA_FULL_ERROR"] not in {"", "0"})
    except SystemExit as error:
        sys.exit(_exit_code(error))


def _fail(error: Exception | KeyboardInterrupt, wants_traceback: bool) -> NoReturn:
    """Print the line for a mistake and end; a fault of the program, or whoever wants it, gets a traceback."""
    if isinstance(error, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
        _leave(128 + signal.SIGINT)
    line = explain(error)
    if line is None or wants_traceback:
        raise error
    code = next((cause.exit_code for cause in _causes(error) if isinstance(cause, UserError)), 1)
    # On a line of its own, below a progress bar. A run that waits has not failed.
    print(f"\nerror: {line}" if code == 1 else line, file=sys.stderr if code == 1 else sys.stdout)
    _leave(code)


def print_version(command: str) -> None:
    """Answer ``--version`` and end; Hydra would print its own version."""
    if "--version" in sys.argv[1:]:
        print(f"{command} {__version__}")
        sys.exit(0)


def _check_overrides(config_name: str) -> None:
    arguments, unknown = get_args_parser().parse_known_args()
    if unknown:
        key, _, value = unknown[0].lstrip("-").partition("=")
        raise UserError(
            f"{unknown[0]}: no such option; keys have no dashes: {key}={value or 'VALUE'} (--help lists them)"
        )
    if not (arguments.help or arguments.hydra_help or arguments.config_path):
        load(config_loader(arguments.config_dir), arguments.config_name or config_name, arguments.overrides, sweep=True)


def _leave(code: int) -> NoReturn:
    if code > 128:  # a signal ended it: a Ctrl-C that comes again must not change the exit code
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _exit_code(error: SystemExit) -> int | str | None:
    """The signal's, where Lightning ends an interrupted evaluation with 1 or 0."""
    if isinstance(error.__context__, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return 128 + signal.SIGTERM if type(error).__name__ == "SIGTERMException" else error.code


def explain(error: BaseException) -> str | None:
    """The line for a user's mistake, or None for a fault of the program."""
    for cause in _causes(error):
        if isinstance(cause, UserError):
            return _last_of_worker_traceback(str(cause))
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            return (
                f"{cause.filename or 'a file of the run'} cannot be written ({cause.strerror}): free some space "
                "and start the same command again; all labels are safe"
            )
        if isinstance(cause, RuntimeError) and (line := _of_the_machine(str(cause))):
            return line
    if isinstance(error, OSError) and error.filename and not Path(error.filename).is_dir():
        return f"{error.filename}: {error.strerror}; check the path and its permissions"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return explain_composing(error)
    return _of_submitit(error)


def _of_submitit(error: BaseException) -> str | None:
    """The line for what the launcher or sweeper of a plugin cannot do."""
    if str(error).startswith('Could not detect "srun"'):
        return "hydra/launcher=submitit_slurm: no srun on this machine; submitit_local runs the jobs on this one"
    if type(error).__name__ == "UncompletedJobError":
        log = re.search(r"\S+(?=_result\.pkl)", str(error))
        return f"a job ended without a result, see {log[0] if log else 'its'}_log.err; start the sweep again to resume"
    if type(error).__name__ == "ValueError" and str(error).startswith("No trials are completed"):
        return "hydra/sweeper=optuna: no job reached a result, see above"
    return None


def _of_the_machine(message: str) -> str | None:
    """What happened to a process, and is nobody's mistake in code or config."""
    worker = re.search(r"DataLoader worker \(pid\S* ([\d, ]+)\).*(?:killed by signal|exited unexpectedly)", message)
    if worker:
        return (
            f"a loader's worker (process {worker[1]}) was killed, mostly for lack of memory: start the same command "
            "again, it resumes; fewer data.num_workers or smaller images need less; all labels are safe"
        )
    if re.search(r"CUDA out of memory|CUDA error: out of memory|not enough memory: you tried to allocate", message):
        return (
            "out of memory: take a smaller data.batch_size or data.eval_batch_size, smaller data.*_size, or "
            "trainer.precision=bf16-mixed, and start again; all labels are safe"
        )
    return None


def _remove_empty(folder: Path) -> None:
    """Hydra makes the run's folder before anything is checked; after a mistake it is removed."""
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


def _last_of_worker_traceback(message: str) -> str:
    # A DataLoader raises a worker's exception again with the traceback as its message.
    return message.strip().splitlines()[-1].split("UserError: ", 1)[-1]
