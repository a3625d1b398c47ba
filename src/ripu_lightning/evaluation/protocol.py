"""The protocol of an evaluation: all that two figures must have in common before they can be compared."""

from collections.abc import Sequence
from typing import Any

from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.evaluation.inference import Inference


def protocol_of(dataset: SegmentationDataset, inference: Inference, input_size: Sequence[int] | None) -> dict[str, Any]:
    """Plain containers that are equal where figures may stand in one column.

    Args:
        dataset: the evaluated images and labels.
        inference: how predictions are made.
        input_size: ``(h, w)`` of the network's input; None where it is that of the files.

    Returns:
        ``classes`` (names), ``subsets`` (names by subset), ``images`` (their number), ``data`` (their fingerprint;
        None where it can not be told), ``input_size``, ``label_size`` (``own``: each label's) and ``inference``.
    """
    return {
        "classes": list(dataset.classes.names),
        "subsets": {name: list(members) for name, members in dataset.classes.subsets.items()},
        "images": len(dataset),
        "data": dataset.fingerprint(),
        "input_size": None if input_size is None else list(input_size),
        "label_size": "own",
        "inference": inference.as_dict(),
    }
