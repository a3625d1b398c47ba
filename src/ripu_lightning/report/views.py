"""What is recorded of one target image after a stage, computed once: for its files, its picture and the loggers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.files import explained, replacing
from ripu_lightning.labels import LabelStore
from ripu_lightning.training.modes import evaluating
from ripu_lightning.training.passes import Passes

_NOTE = "the labels that were bought are safe"


@dataclass(frozen=True)
class RoundView:
    """One target image, at its own size, after a stage.

    Attributes:
        name: the image's id, ``/`` as ``__``.
        stage: rounds trained on.
        image: ``(H, W, 3)`` RGB.
        truth: ``(H, W)`` class indices, 255 ignored; None where it may not be read.
        prediction: ``(H, W)`` class indices.
        asked: ``(H, W)`` round in which each pixel was asked, up to ``stage + 1``; 0 = never.
        labels: ``(H, W)`` what was answered by then, 255 elsewhere.
        maps: ``(H, W)`` float32 each, of the network that asked for the next round: the strategy's ``score``, and
            ``impurity`` and ``uncertainty`` in 0..1. Empty where no next round is bought.
    """

    name: str
    stage: int
    image: UInt8Array
    truth: UInt8Array | None
    prediction: UInt8Array
    asked: npt.NDArray[np.uint16]
    labels: UInt8Array
    maps: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``NAME/image.png`` and ``NAME/truth.png`` once, the others into ``round_R/NAME/``, see :func:`grey`.

        Args:
            folder: of the pictures; made if missing.

        Raises:
            UserError: the disk refused.
        """
        once = {"image": self.image} if self.truth is None else {"image": self.image, "truth": self.truth}
        for kind, picture in once.items():
            if not (folder / self.name / f"{kind}.png").is_file():
                _write(folder / self.name / f"{kind}.png", picture)
        own = folder / f"round_{self.stage}" / self.name
        _write(own / "prediction.png", self.prediction)
        for kind, values in self.maps.items():
            picture, least, most = grey(values, None if kind == "score" else 0.0)
            notes = {"maximum": most} | ({"minimum": least} if kind == "score" else {})
            _write(own / f"{kind}.png", picture, notes)


def view_of(
    passes: Passes, datamodule: ActiveDataModule, index: int, *, score: bool, radius: int | None = None
) -> RoundView:
    """The view of one target image before the round that ``passes`` are for.

    Args:
        passes: of the network after the stage.
        datamodule: of the run.
        index: position in the target data set.
        score: whether the strategy is fitted to this network, so that it can tell its score.
        radius: of impurity and uncertainty, in pixels, or the largest that fits; None for no maps at all.
    """
    target, strategy = datamodule.target, passes.strategy
    segment = strategy.geometry.segment if strategy.geometry.segments and score else None
    batch = datamodule.pool_dataloader(segment).dataset[index].to(passes.module.device)
    maps: dict[str, Tensor] = {}
    with evaluating(passes.module):
        if score:
            inputs = passes.image(batch).inputs
            logits, maps["score"] = inputs.logits, strategy.score(inputs)
        else:
            logits = passes.logits(batch.image, batch.sizes[0])
        if radius is not None:
            radius = min(radius, (min(batch.sizes[0]) - 1) // 2)
            maps["impurity"] = F.region_impurity(logits, radius)
            maps["uncertainty"] = F.region_uncertainty(logits, radius)
    labels, asked = _bought(datamodule.store, target.ids[index], target.size(index), passes.round)
    return RoundView(
        name=target.ids[index].replace("/", "__"),
        stage=passes.round - 1,
        image=target.image(index),
        truth=target.label(index) if target.has_labels else None,
        prediction=logits.argmax(dim=1)[0].to(torch.uint8).cpu().numpy(),
        asked=asked,
        labels=labels,
        maps={kind: values[0].float().cpu().numpy() for kind, values in maps.items()},
    )


def grey(values: npt.NDArray[np.float32], least: float | None = None) -> tuple[UInt8Array, float, float]:
    """A map in 8 bits, with the numbers to read it back: ``least + most * grey / 255``.

    Args:
        values: ``(H, W)``; what is not finite is drawn as the least or the largest finite value.
        least: what black stands for; None for the lowest finite value.

    Returns:
        ``(H, W)`` uint8, ``least`` and ``most``, which is 0 where all values are equal.

    >>> grey(np.array([[-np.inf, 2.0], [3.0, 4.0]], dtype=np.float32))
    (array([[  0,   0],
           [128, 255]], dtype=uint8), 2.0, 2.0)
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    least = float(finite.min(initial=np.inf)) if least is None else least
    least = least + 0.0 if np.isfinite(least) else 0.0  # and no -0.0
    most = max(0.0, float(finite.max(initial=least)) - least)
    shifted = np.nan_to_num(values.astype(np.float64), nan=least, posinf=least + most, neginf=least) - least
    scaled = shifted / most if most else np.zeros_like(shifted)
    return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8), least, most


def _bought(
    store: LabelStore | None, image_id: str, size: tuple[int, int], through: int
) -> tuple[UInt8Array, npt.NDArray[np.uint16]]:
    """Labels and the round in which each was asked; later rounds than ``through`` (of a run resumed) do not show."""
    if store is None:
        return np.full(size, IGNORE, dtype=np.uint8), np.zeros(size, dtype=np.uint16)
    asked = store.asked(image_id)
    asked[asked > through] = 0
    return store.mask(image_id, through), asked


def _write(path: Path, picture: UInt8Array, notes: dict[str, Any] | None = None) -> None:
    info = PngInfo()
    for key, value in (notes or {}).items():
        info.add_text(key, repr(value))
    with explained(path, _NOTE):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, _NOTE) as file, explained(path, _NOTE):
        Image.fromarray(picture).save(file, format="PNG", pnginfo=info)
