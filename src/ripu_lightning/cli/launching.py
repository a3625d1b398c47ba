"""What started this process: one run folder for all processes of a launcher, and launches that can not work."""

import os
import re
import time
from collections.abc import Sequence
from datetime import timedelta

from omegaconf import DictConfig, ListConfig, OmegaConf

from ripu_lightning.errors import UserError

PATIENCE = timedelta(seconds=60)
"""How long a process of torchrun tries to reach the others."""


def start_name() -> str:
    """The value of ``${start:}``: names when a run started, the same for all its processes.

    A step of SLURM has a name of its own, which it keeps when its job is requeued. The processes of torchrun take the
    time of whoever was first, also after a restart. Processes that Lightning starts are told the folder.

    Raises:
        UserError: torchrun's processes have nothing by which to agree.
    """
    if _by_srun():
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
        return f"slurm_{job}.{os.environ['SLURM_STEP_ID']}"  # as SLURM writes it
    now = time.strftime("%Y-%m-%d_%H-%M-%S")
    return _first_of_torchrun(now) if _by_torchrun() else now


OmegaConf.register_new_resolver("start", start_name, use_cache=True, replace=True)


def launcher() -> tuple[str, int] | None:
    """The launcher that started this process, with how many others of the run it did; None where there is none."""
    if _by_torchrun():
        return "torchrun", int(os.environ["WORLD_SIZE"])
    if "SLURM_NTASKS" in os.environ and not _interactive():
        return "SLURM", int(os.environ["SLURM_NTASKS"])
    return None


def require_fitting_launch(config: DictConfig, given: Sequence[str]) -> None:
    """Refuse a launcher that started other processes than the trainer counts on: these would train apart, or wait.

    Args:
        config: of a command; without a trainer, anything goes.
        given: the overrides of the command line.

    Raises:
        UserError: naming the key.
    """
    nodes, started = OmegaConf.select(config, "trainer.num_nodes") or 1, launcher()
    devices = _count(OmegaConf.select(config, "trainer.devices"))
    if config.get("pretrain") and (nodes != 1 or (started and started[1] != 1)):
        # Each process would start it, and the address where they meet serves one run only.
        raise UserError(
            "pretrain: two steps can not share the processes of a launcher (torchrun, SLURM); start them one after the "
            f"other: experiment={config.pretrain}, then pretrain=null initial=RUN/checkpoints/last.ckpt"
        )
    if started is None:
        if nodes != 1 and not any(item.startswith(("output=", "hydra.run.dir=")) for item in given):
            raise UserError("output: several nodes without torchrun or SLURM; name the run's folder, one for all")
        return
    name, processes = started
    if name == "SLURM" and processes > 1 and "SLURM_STEP_ID" not in os.environ:
        raise UserError(f"trainer: SLURM has {processes} tasks, but only one was started; put srun before the command")
    if devices is not None and devices * nodes != processes:
        raise UserError(
            f"trainer.devices: {name} started {processes} in all, but trainer.devices={devices} on "
            f"trainer.num_nodes={nodes} are {devices * nodes}; make them agree"
        )
    if devices is not None and name == "SLURM" and int(os.environ.get("SLURM_NNODES", nodes)) != nodes:
        raise UserError(f"trainer.num_nodes: {nodes}, but the SLURM job has {os.environ['SLURM_NNODES']} nodes")


def refuse_sweep() -> None:
    """Refuse a sweep in several processes of a launcher: each would run the whole sweep.

    Raises:
        UserError: naming the launcher.
    """
    name, processes = launcher() or ("", 1)
    if processes > 1:
        raise UserError(
            f"-m: {name} has {processes} processes, each of which would run the whole sweep; start it in one process, "
            "with trainer.devices=N or hydra/launcher=submitit_slurm for the processes of its jobs"
        )


def explain_submission(error: BaseException) -> str | None:
    """The line for what submitit can not do, or None where it is something else."""
    if str(error).startswith('Could not detect "srun"'):
        return "hydra/launcher=submitit_slurm: no srun on this machine; submitit_local runs the jobs on this one"
    if type(error).__name__ == "UncompletedJobError":
        log = re.search(r"\S+(?=_result\.pkl)", str(error))
        return f"a job ended without a result, see {log[0] if log else 'its'}_log.err; start the sweep again to go on"
    if type(error).__name__ == "ValueError" and str(error).startswith("No trials are completed"):
        return "hydra/sweeper=optuna: no job reached a result, see above"
    return None


def _by_srun() -> bool:
    return {"SLURM_JOB_ID", "SLURM_STEP_ID"} <= os.environ.keys() and not _interactive()


def _interactive() -> bool:
    """In a shell of SLURM Lightning starts its processes itself, and one step runs many commands."""
    return os.environ.get("SLURM_JOB_NAME") in {"bash", "interactive"}


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _first_of_torchrun(now: str) -> str:
    """The first process's time, by way of the store through which torchrun's processes meet."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise UserError("output: this rendezvous of torchrun has no store to agree on a folder by; name one for all")
    # Only here, as everything else can be refused without waiting for torch.
    from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = TCPStore(host, port, is_master=False, timeout=PATIENCE)
        return str(store.compare_set("ripu_lightning/start", "", now).decode())
    except DistError as error:
        raise UserError(f"torchrun: no answer from its store at {host}:{port}; are all its nodes running?") from error


def _count(devices: object) -> int | None:
    """How many devices a node has; None where that is left to Lightning."""
    if isinstance(devices, ListConfig):
        return len(devices)
    return devices if isinstance(devices, int) and devices > 0 else None
