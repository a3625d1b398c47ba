"""What started this process: one run folder for all processes of a launcher, and launches that cannot work."""

import os
import time
from datetime import timedelta

from omegaconf import DictConfig, ListConfig, OmegaConf

from ripu_lightning.errors import UserError

PATIENCE = timedelta(seconds=60)
"""How long a process of torchrun tries to reach the others."""


def start_name() -> str:
    """The value of ``${start:}``: names when a run started, the same for all its processes.

    A step of SLURM has a name of its own, which it keeps when its job is requeued. The processes of torchrun take the
    time of the first one, also after a restart. Processes that Lightning starts get the folder from it.

    Raises:
        UserError: the processes of torchrun have no store through which to agree.
    """
    if _by_srun():
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
        return f"slurm_{job}.{os.environ['SLURM_STEP_ID']}"  # as SLURM writes it
    now = time.strftime("%Y-%m-%d_%H-%M-%S")
    return _first_of_torchrun(now) if _by_torchrun() else now


OmegaConf.register_new_resolver("start", start_name, use_cache=True, replace=True)


def launcher() -> tuple[str, int] | None:
    """The launcher that started this process, and how many processes of the run it started; None for no launcher."""
    if _by_torchrun():
        return "torchrun", int(os.environ["WORLD_SIZE"])
    if "SLURM_NTASKS" in os.environ and not _interactive():
        return "SLURM", int(os.environ["SLURM_NTASKS"])
    return None


def require_fitting_launch(config: DictConfig, named: bool) -> None:
    """Refuse a launcher that started more or fewer processes than the trainer expects.

    Args:
        config: of a command; without a trainer, nothing is refused.
        named: whether the user named the run's folder.

    Raises:
        UserError: naming the key.
    """
    nodes, started = OmegaConf.select(config, "trainer.num_nodes") or 1, launcher()
    devices = _count(OmegaConf.select(config, "trainer.devices"))
    if config.get("pretrain") and (nodes != 1 or (started and started[1] != 1)):
        # Each process would start it, and the address where they meet serves one run only.
        raise UserError(
            "pretrain: two steps cannot share the processes of a launcher (torchrun, SLURM); start them one after the "
            f"other: experiment={config.pretrain}, then pretrain=null initial=RUN/checkpoints/last.ckpt"
        )
    if started is None:
        if nodes != 1 and not named:
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


def _by_srun() -> bool:
    return {"SLURM_JOB_ID", "SLURM_STEP_ID"} <= os.environ.keys() and not _interactive()


def _interactive() -> bool:
    """In a shell of SLURM Lightning starts its processes itself, and one step runs many commands."""
    return os.environ.get("SLURM_JOB_NAME") in {"bash", "interactive"}


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _first_of_torchrun(now: str) -> str:
    """The first process's time, from the store through which torchrun's processes meet."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise UserError("output: this rendezvous of torchrun has no store to agree on a folder by; name one for all")
    # Only here, because everything else can be refused without waiting for torch.
    from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = TCPStore(host, port, is_master=False, timeout=PATIENCE)
        return str(store.compare_set("ripu_lightning/start", "", now).decode())
    except DistError as error:
        raise UserError(f"torchrun: no answer from its store at {host}:{port}; are all its nodes running?") from error


def _count(devices: object) -> int | None:
    """How many devices a node has; None if Lightning decides."""
    if isinstance(devices, ListConfig):
        return len(devices)
    return devices if isinstance(devices, int) and devices > 0 else None
