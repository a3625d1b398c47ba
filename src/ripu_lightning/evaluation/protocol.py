"""The protocol of an evaluation: all that two figures must have in common before they can be compared."""

from collections.abc import Sequence
from typing import Any

from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.evaluation.inference import Inference


def protocol_of(
    dataset: SegmentationDataset,
    content: str | None,
    inference: Inference,
    input_size: Sequence[int] | None,
    precision: str,
) -> dict[str, Any]:
    """Plain containers that are equal where figures may stand in one table.

    Args:
        dataset: the evaluated images and labels.
        content: their digest, equal for equal data on any machine; None where it can not be told.
        inference: how predictions are made.
        input_size: ``(h, w)`` of the network's input; None where it is that of the files.
        precision: of the forward pass, in Lightning's words.

    Returns:
        ``classes`` (names), ``subsets`` (names by subset), ``images`` (their number), ``data`` (their
        digest), ``input_size``, ``inference`` and ``precision``.
    """
    return {
        "classes": list(dataset.classes.names),
        "subsets": {name: list(members) for name, members in dataset.classes.subsets.items()},
        "images": len(dataset),
        "data": content,
        "input_size": None if input_size is None else list(input_size),
        "inference": inference.as_dict(),
        "precision": precision,
    }
