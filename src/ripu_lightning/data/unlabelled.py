"""A data set without its labels, for runs in which the target's truth must not be read."""

from typing import Literal, NoReturn

from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array


class Unlabelled(SegmentationDataset):
    """The images of a data set, whose ``label`` is never called."""

    has_labels = False

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.classes, self.ids, self._dataset = dataset.classes, dataset.ids, dataset

    def image(self, index: int) -> UInt8Array:
        """See :class:`SegmentationDataset`."""
        return self._dataset.image(index)

    def label(self, index: int) -> NoReturn:
        """Raises RuntimeError."""
        raise RuntimeError(f"{self.ids[index]}: the truth of this data set must not be read")

    def size(self, index: int) -> tuple[int, int]:
        """See :class:`SegmentationDataset`."""
        return self._dataset.size(index)

    def check(self, labels: bool = True) -> None:
        """Reads the images, never the labels."""
        self._dataset.check(labels=False)

    def fingerprint(self) -> str | None:
        """That of the data set: its prepared images serve here, too."""
        return self._dataset.fingerprint()

    def digests(self, kind: Literal["images", "labels"]) -> dict[str, str] | None:
        """Those of the images; the label files are not opened."""
        return self._dataset.digests("images") if kind == "images" else None

    def content(self) -> None:
        """None: the digest of everything would need the labels."""
