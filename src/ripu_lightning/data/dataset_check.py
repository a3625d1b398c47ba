"""What ActiveDataModule refuses: data sets without images, with other classes, or of sizes that cannot be stacked."""

from collections.abc import Sequence

from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import InvalidArgument

_OWNER = "ActiveDataModule"


def require_dataset(name: str, dataset: SegmentationDataset, classes: Sequence[str]) -> None:
    """Refuse a data set without images, or with other class names than ``classes``.

    Raises:
        InvalidArgument: naming the argument ``name``.
    """
    if not len(dataset):
        raise InvalidArgument(_OWNER, name, "has no images; expected 1 or more")
    if tuple(dataset.classes.names) != tuple(classes):
        raise InvalidArgument(
            _OWNER,
            name,
            f"has the classes {', '.join(dataset.classes.names)}, but target has {', '.join(classes)}; "
            "use one class map for both domains",
        )


def require_one_size(domain: str, dataset: SegmentationDataset) -> None:
    """Refuse images of several sizes, which cannot be stacked in a batch.

    Raises:
        InvalidArgument: naming ``source_size`` or ``target_size``.
    """
    sizes = {dataset.size(index) for index in range(len(dataset))}
    if len(sizes) > 1:
        (h1, w1), (h2, w2) = sorted(sizes)[:2]
        several = f"images of several sizes ({h1}x{w1}, {h2}x{w2}, ...) cannot be stacked"
        raise InvalidArgument(_OWNER, f"{domain}_size", f"is not set: {several}; give [height, width]")
