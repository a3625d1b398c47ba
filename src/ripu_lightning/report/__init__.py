"""What people look at: files of one run here, many runs in ``page``, strategies on one network in ``replay``."""

from typing import TYPE_CHECKING

from ripu_lightning.lazy import lazy_names

if TYPE_CHECKING:
    from ripu_lightning.report.across_runs import Report, report
    from ripu_lightning.report.page.annotation_cost import AnnotationModel

# A run that records itself needs none of them.
_HOMES = {"report": "across_runs", "Report": "across_runs", "AnnotationModel": "page.annotation_cost"}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)

__all__ = ["AnnotationModel", "Report", "report"]
