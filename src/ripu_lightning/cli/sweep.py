"""A sweep: its folder, its jobs, and the report on them at its end."""

import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ripu_lightning.cli.sweep_job import NAME, Job, read_job
from ripu_lightning.cli.sweep_table import Watch
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.launching import launcher
from ripu_lightning.report.result import reached_with
from ripu_lightning.signals import SIGNALS

LONGEST = 120
"""Characters of the name of a job's folder; file systems take 255 bytes."""
PLAIN = BasicSweeperConf._target_
"""Hydra's own sweeper, whose jobs are known before it starts."""


@dataclass
class Sweep:
    """The sweep that this process runs.

    Attributes:
        name: of its folder.
        keys: the keys that are swept.
        folders: names of its jobs' folders; empty if they are not known before it starts.
        count: number of its jobs; None if it is not known.
        steps: of a job that has not begun.
        place: its folder, once Hydra has resolved it.
        watch: shows it while it runs.
    """

    name: str
    keys: list[str]
    folders: list[str] = field(default_factory=list)
    count: int | None = None
    steps: int | None = None
    place: Path = Path()
    watch: Watch | None = None

    def jobs(self) -> dict[str, Job | None]:
        """The records of all its jobs by their folders' names; None of those that have not begun."""
        names = self.folders or sorted(path.parent.name for path in self.place.glob(f"*/{NAME}"))
        return {name: read_job(self.place / name) for name in names}


_current: Sweep | None = None


class SweepCallback(Callback):
    """Called by Hydra before the jobs of a sweep start. Without state, because launchers send it to their processes."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Plan the sweep and begin to show it. Exits with 1 and a line if it is refused."""
        global _current
        try:
            _refuse_launcher()
            _current = plan(config)
        except UserError as error:  # Hydra would print a warning and continue
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        _current.place = Path(str(config.hydra.sweep.dir))
        if "${sweep_keys:}" in str(OmegaConf.to_container(config.hydra.sweep, resolve=False)):
            _ = config.hydra.sweep.subdir  # has Hydra remember the keys for the processes of its launcher
        else:
            _current.folders = []  # the user names them
        for number in SIGNALS[1:]:  # while a job runs here, run_child passes them on to it instead
            signal.signal(number, _stop)
        _current.watch = Watch(_current.place, _current.jobs, _current.count, _current.steps)
        _current.watch.start()


def _refuse_launcher() -> None:
    name, processes = launcher() or ("", 1)
    if processes > 1:
        raise UserError(
            f"-m: {name} has {processes} processes, each of which would run the complete sweep; start it in one "
            "process, with trainer.devices=N or hydra/launcher=submitit_slurm for the processes of its jobs"
        )


@contextmanager
def watched() -> Iterator[None]:
    """Run a command; if it was a sweep, stop showing it, and report the jobs that failed.

    Raises:
        UserError: there are any.
    """
    global _current
    _current = None
    try:
        yield
    finally:
        sweep, _current = _current, None
        if sweep and sweep.watch:
            sweep.watch.stop()
    failed = [name for name, job in sweep.jobs().items() if job and job.state == "failed"] if sweep else []
    if sweep and failed:
        raise UserError(
            f"{len(failed)} of {sweep.count or len(sweep.jobs())} jobs failed, see above and the log.txt in their "
            f"folders below {sweep.place}; the same command starts them again"
        )


def plan(config: DictConfig) -> Sweep:
    """The sweep of a command line.

    Args:
        config: of the sweep, with Hydra's own config.

    Raises:
        UserError: it names one folder for all jobs.
    """
    parameters = OmegaConf.to_container(config.hydra.sweeper.get("params") or OmegaConf.create({}))
    assert isinstance(parameters, dict)
    lines = [*(f"{key!s}={value}" for key, value in parameters.items()), *config.hydra.overrides.task]
    overrides = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(lines)
    last = {override.get_key_element(): override for override in overrides}
    if "output" in {key.lstrip("+") for key in last}:
        raise UserError("output: a sweep's folders are named by hydra.sweep.dir=FOLDER; leave output out")
    keys = sorted(key for key, override in last.items() if override.is_sweep_override() or key in parameters)
    fixed = {key.lstrip("+"): override.get_value_element_as_str() for key, override in last.items() if key not in keys}
    digest = sha256(repr((keys, sorted(reached_with(fixed).items()))).encode()).hexdigest()[:8]
    sweep = Sweep(f"{config.get('name', config.hydra.job.name)}/sweep_{digest}", keys)
    steps = OmegaConf.select(config, "schedule.steps")
    sweep.steps = steps if isinstance(steps, int) else None
    sweep.folders = _folders(overrides, keys) if config.hydra.sweeper._target_ == PLAIN else []
    sweep.count = len(sweep.folders) or config.hydra.sweeper.get("n_trials")
    return sweep


def _folders(overrides: list[Override], keys: Sequence[str]) -> list[str]:
    try:
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
    except HydraException:  # a kind of sweep that it does not know; Hydra reports it itself
        return []
    return list(dict.fromkeys(job_name(job, keys) for job in jobs))


def job_name(overrides: Sequence[str], keys: Sequence[str]) -> str:
    """The folder of a job: the swept keys with their values, in words.

    Not as on the command line: Hydra reads no path with ``=`` or a comma in it, as in ``checkpoint=...``. Other
    characters that Hydra or a file system refuses are replaced, and a long name is cut; then a part of its hash
    distinguishes it from others.

    >>> job_name(["experiment=demo", "strategy=ripu", "seed=1"], ["strategy", "seed"])
    'seed-1+strategy-ripu'
    """
    swept = (item.partition("=") for item in sorted(overrides))
    words = "+".join(f"{key.lstrip('+')}-{value}" for key, _, value in swept if key in keys) or "job"
    name = re.sub(r"[^\w.@+-]", "_", words, flags=re.ASCII)[:LONGEST]
    return name if name == words else f"{name}-{sha256(words.encode()).hexdigest()[:8]}"


def _sweep_dir() -> str:
    """The value of ``${sweep_dir:}``: the folder of the sweep, the same for the same line."""
    return f"runs/{_current.name}" if _current else "runs/sweep"


def _sweep_keys() -> str:
    return " ".join(_current.keys) if _current else ""


def _sweep_job(keys: str) -> str:
    return job_name(HydraConfig.get().overrides.task, keys.split()) if HydraConfig.initialized() else "job"


# Hydra resolves them in this process and hands the cached values to the processes of a launcher.
OmegaConf.register_new_resolver("sweep_dir", _sweep_dir, use_cache=True, replace=True)
OmegaConf.register_new_resolver("sweep_keys", _sweep_keys, use_cache=True, replace=True)
OmegaConf.register_new_resolver("sweep_job", _sweep_job, replace=True)


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
