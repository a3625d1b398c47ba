"""What is recorded of one target image after a stage, computed once: for its files, its picture and the loggers."""

from dataclasses import dataclass, field
from pathlib import Path

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
from ripu_lightning.report.json_records import LABELS_SAFE
from ripu_lightning.training.eval_mode import evaluating
from ripu_lightning.training.pool_inference import PoolInference


@dataclass(frozen=True)
class ImageSnapshot:
    """One target image, at its own size, after a stage.

    Attributes:
        name: the image's id, ``/`` as ``__``.
        stage: rounds trained on.
        image: ``(H, W, 3)`` RGB.
        truth: ``(H, W)`` class indices, 255 ignored; None where it may not be read.
        prediction: ``(H, W)`` class indices.
        query_round: ``(H, W)`` round in which each pixel was queried, up to ``stage + 1``; 0 = never.
        labels: ``(H, W)`` answers by then, 255 elsewhere.
        maps: ``(H, W)`` float32 each, of the network that selects the next round: the strategy's ``score``, and
            ``impurity`` and ``uncertainty`` in 0..1. Empty where there is no next round.
    """

    name: str
    stage: int
    image: UInt8Array
    truth: UInt8Array | None
    prediction: UInt8Array
    query_round: npt.NDArray[np.uint16]
    labels: UInt8Array
    maps: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``NAME/image.png`` and ``NAME/truth.png`` once, the others into ``round_R/NAME/``, see :func:`grey`.

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
            _write(own / f"{kind}.png", picture, maximum=most, **({"minimum": least} if kind == "score" else {}))


def take_snapshot(
    pool_inference: PoolInference,
    datamodule: ActiveDataModule,
    store: LabelStore,
    index: int,
    *,
    score: bool,
    radius: int | None = None,
) -> ImageSnapshot:
    """The snapshot of the target image at ``index`` before the round that ``pool_inference`` is for.

    Args:
        pool_inference: of the network after the stage.
        datamodule: of the run.
        store: of the run.
        index: position in the target data set.
        score: whether the strategy is fitted to this network, so that its score is known.
        radius: of impurity and uncertainty, in pixels, or the largest that fits; None for no maps at all.
    """
    target, strategy = datamodule.target, pool_inference.strategy
    segment = strategy.region_type.segment if strategy.region_type.segments and score else None
    batch = datamodule.pool_dataloader(segment).dataset[index].to(pool_inference.module.device)
    maps: dict[str, Tensor] = {}
    with evaluating(pool_inference.module):
        if score:
            inputs = pool_inference.image(batch).inputs
            logits, maps["score"] = inputs.logits, strategy.score(inputs)
        else:
            logits = pool_inference.logits(batch.image, batch.sizes[0])
        if radius is not None:
            radius = min(radius, (min(batch.sizes[0]) - 1) // 2)
            maps["impurity"] = F.region_impurity(logits, radius)
            maps["uncertainty"] = F.region_uncertainty(logits, radius)
    query_round, labels = store.query_round(target.ids[index]), store.mask(target.ids[index])
    later = query_round > pool_inference.round  # a run resumed from an old checkpoint finds later rounds in its store
    query_round[later], labels[later] = 0, IGNORE
    return ImageSnapshot(
        name=target.ids[index].replace("/", "__"),
        stage=pool_inference.round - 1,
        image=target.image(index),
        truth=target.label(index) if target.has_labels else None,
        prediction=logits.argmax(dim=1)[0].to(torch.uint8).cpu().numpy(),
        query_round=query_round,
        labels=labels,
        maps={kind: values[0].float().cpu().numpy() for kind, values in maps.items()},
    )


def grey(values: npt.NDArray[np.float32], least: float | None = None) -> tuple[UInt8Array, float, float]:
    """A map ``(H, W)`` as ``(H, W)`` uint8, with ``least`` and ``most``: value = least + most * grey / 255.

    Black is ``least``, or the lowest finite value; what is not finite is drawn as the lowest or largest finite one.

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


def _write(path: Path, picture: UInt8Array, **notes: float) -> None:
    info = PngInfo()
    for key, value in notes.items():
        info.add_text(key, repr(value))
    with explained(path, LABELS_SAFE):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, LABELS_SAFE) as file, explained(path, LABELS_SAFE):
        Image.fromarray(picture).save(file, format="PNG", pnginfo=info)
