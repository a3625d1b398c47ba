"""Tips and notices of libraries, which the log of a command leaves out; warnings and errors about the run stay in.

Only commands do this: whoever uses the library in a process of their own keeps what its libraries say there.
"""

import logging
import os
import warnings

NOTES = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"Found \d+ module\(s\) in eval mode at the start of training",  # averaged networks, frozen BatchNorm
    r"Total length of `.*` across ranks is zero",  # no evaluation data
    r"The '\w+' does not have many workers",
    r"Consider setting `persistent_workers=True`",
    r"GPU available but not used",
    r"find_unused_parameters=True was specified in DDP constructor",  # see _processes in experiment/run.py
)
"""Beginnings of warnings that say nothing about a run."""
LOGGERS = {
    "lightning_fabric.utilities.rank_zero": logging.WARNING,  # which devices there are, tips, that fit has stopped
    "pytorch_lightning.utilities.rank_zero": logging.WARNING,
    "matplotlib.font_manager": logging.ERROR,  # that it looks for fonts, once on a machine
}
"""Loggers of libraries, and the level from which on they are of interest."""


def leave_out_library_notes() -> None:
    """Leave out what the libraries of a command say about themselves; call it before they are imported."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask a server for newer versions
    for note in NOTES:
        warnings.filterwarnings("ignore", note)
    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)
