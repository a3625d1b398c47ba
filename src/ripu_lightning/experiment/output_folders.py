"""Output folders: results of two commands are never mixed in one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ripu_lightning.errors import UserError
from ripu_lightning.first_rank import leads

EVALUATION = ("result.json", "predictions")
COMPARISON = ("compare.json", "compare.csv", "agreement.png", "classes.png", "pictures")
_RUN = ("config.yaml", "checkpoints")
_JOB = "job.json"


def require_free(folder: Path, own: Sequence[str]) -> None:
    """Refuse a folder with results of another command; a job of a sweep, which owns its folder, replaces its own.

    Args:
        folder: of the output; need not exist.
        own: the names that the command is going to write.

    Raises:
        UserError: naming the first file that is there.
    """
    if not leads():  # the first process may have begun to write
        return
    if (folder / _JOB).is_file():
        for name in own:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    for name in (*own, *_RUN):
        if (folder / name).exists():
            raise UserError(
                f"output: {folder} holds other results already ({name}); choose another output, or remove them"
            )


def require_run_folder(folder: Path) -> None:
    """Refuse to train in a folder with the results of an evaluation. Raises :class:`UserError`."""
    if not (folder / "config.yaml").is_file():
        for name in EVALUATION:
            if leads() and (folder / name).exists():
                raise UserError(
                    f"output: {folder} holds an evaluation ({name}) and no run; choose another output, or remove it"
                )
