"""The protocol of an evaluation: what two figures must have in common to be comparable."""

from collections.abc import Sequence
from typing import Any

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.evaluation.inference import Inference


def protocol_of(
    dataset: SegmentationDataset,
    classes: ClassMap,
    content: str | None,
    inference: Inference,
    input_size: Sequence[int] | None,
    precision: str,
) -> dict[str, Any]:
    """Plain containers that are equal for figures that may be compared.

    Args:
        dataset: the evaluated images and labels.
        classes: of the figures, with the subsets that have a mean.
        content: their digest, equal for equal data on any machine; None where unknown.
        inference: how predictions are made.
        input_size: ``(h, w)`` of the network's input; None where each image keeps its own.
        precision: of the forward pass, as Lightning names it.
    """
    return {
        "classes": list(classes.names),
        "subsets": {name: list(members) for name, members in classes.subsets.items()},
        "images": len(dataset),
        "data": content,
        "input_size": None if input_size is None else list(input_size),
        "inference": inference.as_dict(),
        "precision": precision,
    }
