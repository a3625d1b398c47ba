"""What only the first process of a run does; needs neither torch nor Lightning, which keeps to the same rank."""

import os

from lightning_utilities.core.rank_zero import rank_zero_only
from lightning_utilities.core.rank_zero import rank_zero_warn as rank_zero_warn

if getattr(rank_zero_only, "rank", None) is None:  # Lightning sets it when it is imported, from the same variables
    _ranks = [os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")]
    setattr(rank_zero_only, "rank", next((int(rank) for rank in _ranks if rank is not None), 0))  # noqa: B010


def leads() -> bool:
    """Whether this process is the first of its run."""
    return getattr(rank_zero_only, "rank", 0) == 0
