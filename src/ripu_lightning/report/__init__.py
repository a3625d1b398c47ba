"""What people look at: files of one run here, many runs in ``page``, strategies on one network in ``replay``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ripu_lightning.report.across_runs import Report, report
    from ripu_lightning.report.page.annotation_cost import AnnotationModel

_LAZY = {"report": "across_runs", "Report": "across_runs", "AnnotationModel": "page.annotation_cost"}
__all__ = ["AnnotationModel", "Report", "report"]


def __getattr__(name: str) -> Any:
    # On first use: a run that records itself needs none of it.
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
