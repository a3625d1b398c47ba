"""The network's outputs on the pool: image by image, just what a strategy requires, the same for any batch or rank."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from tqdm import tqdm

from ripu_lightning.acquisition import ScoreInputs, Strategy
from ripu_lightning.data.pools import EvalBatch
from ripu_lightning.errors import UserError
from ripu_lightning.evaluation.sliding_window import SlidingWindow
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.networks.resize import resize_logits
from ripu_lightning.seeding import derive_seed
from ripu_lightning.training.active_pool import ActivePool, as_eval_batch
from ripu_lightning.training.eval_mode import evaluating
from ripu_lightning.training.run_checkpoint import raise_if_interrupted


@dataclass(frozen=True)
class PoolImage:
    """One image as a strategy sees it.

    Attributes:
        index: position in the data set.
        image_id: its id.
        inputs: of this image alone.
    """

    index: int
    image_id: str
    inputs: ScoreInputs


@dataclass(frozen=True)
class PoolInference:
    """Runs the network over images for one round; use it inside :func:`evaluating`.

    Attributes:
        trainer: gives the precision and decides who shows a progress bar.
        module: any module whose forward gives logits.
        strategy: decides which outputs are computed.
        round: 1-based.
        seed: the run's seed.
        resize_twice: bring logits to the input's size before they are brought to the label's, as the public code of
            Xie et al. (2022) does.
        window: pass each image through the network window by window; None passes it as a whole.
    """

    trainer: Trainer
    module: LightningModule
    strategy: Strategy
    round: int
    seed: int
    resize_twice: bool = False
    window: SlidingWindow | None = None

    def run(
        self, loader: Iterable[Any], image_sizes: Mapping[str, tuple[int, int]] | None, title: str
    ) -> Iterator[PoolImage]:
        """All images of a loader, one by one.

        Args:
            loader: see :meth:`ActivePool.pool_dataloader`.
            image_sizes: of its images by id; None where the batches are :class:`EvalBatch` and say so themselves.
            title: of the progress bar.

        Raises:
            UserError: logits that are not finite, or a network without features where they are required.
        """
        silent = not self.trainer.is_global_zero or self.trainer.progress_bar_callback is None
        for batch in tqdm(loader, desc=f"round {self.round}: {title}", unit="batch", disable=silent):
            raise_if_interrupted(self.trainer)
            batch = as_eval_batch(batch, image_sizes or {}).to(self.module.device)
            for position in range(len(batch.ids)):
                yield self.image(batch, position)

    def image(self, batch: EvalBatch, position: int = 0) -> PoolImage:
        """One image of a batch, on the module's device; raises as :meth:`run`."""
        image_id, size, image = batch.ids[position], batch.sizes[position], batch.image[position : position + 1]
        # Alone: the number of images in a batch decides which kernel computes a layer, and so how it rounds.
        output = self.forward(image)
        logits = self._logits(output, image, size)
        self._require_finite(logits, image_id)
        requires = self.strategy.requires
        inputs = ScoreInputs(
            logits=logits,
            image_ids=[image_id],
            round=self.round,
            seed=self.seed,
            features=features_of(output).float() if "features" in requires else None,
            samples=self._samples(image, image_id, size) if "samples" in requires else None,
            regions=batch.regions[position][None] if batch.regions else None,
        )
        return PoolImage(batch.indices[position], image_id, inputs)

    def _samples(self, image: Tensor, image_id: str, size: tuple[int, int]) -> Iterator[Tensor]:
        """Logits with other units dropped each time; what is dropped depends on the image, not on its batch or rank."""
        devices = [image.device] if image.device.type == "cuda" else []
        for number in range(self.strategy.samples):
            with torch.random.fork_rng(devices=devices), dropping(self.module):
                torch.manual_seed(derive_seed(self.seed, "samples", self.round, image_id, number))
                logits = self.logits(image, size)
            self._require_finite(logits, image_id)
            yield logits

    def logits(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits ``(1, C, H, W)`` of one image ``(1, 3, h, w)`` at its label's size, finite or not."""
        return self._logits(self.forward(image), image, size)

    def _logits(self, output: Any, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Those of one image, at the label's size."""
        logits = logits_of(output)
        if self.resize_twice:
            logits = resize_logits(logits, (image.shape[-2], image.shape[-1]))
        return resize_logits(logits, size)

    def forward(self, image: Tensor) -> Any:
        """What the network gives for one image ``(1, 3, h, w)``, in the trainer's precision.

        With windows, the logits are log-probabilities at the size of the image: softmax gives back the mean of the
        windows' probabilities.
        """
        precision = self.trainer.precision_plugin
        with precision.forward_context():
            image = precision.convert_input(image)
            if self.window is None:
                return self.module(image)
            probabilities, features = self.window.run(self._outputs, image)
            # Softmax may round to 0, whose logarithm is not finite.
            logits = probabilities.clamp_min_(torch.finfo(torch.float32).tiny).log_()
            return logits if features is None else SegmentationOutput(logits, features)

    def _outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        output = self.module(images)
        return logits_of(output), features_of(output) if "features" in self.strategy.requires else None

    def _require_finite(self, logits: Tensor, image_id: str) -> None:
        if not bool(torch.isfinite(logits).all()):
            raise UserError(
                f"image {image_id}: the network's logits are NaN or infinite after step {self.trainer.global_step}, so "
                "nothing was queried; lower the learning rate or train in a wider precision"
            )


def logits_of(output: Any) -> Tensor:
    """The logits of any module: the output itself, or its attribute ``logits``.

    Raises:
        UserError: neither is a tensor.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        kind = type(output).__name__
        raise UserError(f"forward: must return logits (B, C, h, w), or an output with an attribute logits; got {kind}")
    return logits


def features_of(output: Any) -> Tensor:
    """The features ``(B, D, h, w)`` of a module's output.

    Raises:
        UserError: it has none.
    """
    features = getattr(output, "features", None)
    if not isinstance(features, Tensor):
        raise UserError(
            "network: the strategy requires features, but forward gives none; return an output with logits and features"
        )
    return features


def require_outputs(inference: PoolInference, pool: ActivePool) -> None:
    """Refuse, before any training, a network without what the strategy reads, by one look at an image of the pool.

    Raises:
        UserError: forward gives no logits, logits of other classes than the pool has, or no features where the strategy
            requires them.
    """
    classes = len(pool.class_names)
    for batch in pool.pool_dataloader():
        image = as_eval_batch(batch, pool.image_sizes).image[:1]
        if inference.window:
            height, width = inference.window.size
            image, inference = image[..., :height, :width], replace(inference, window=None)
        if len(image):
            with evaluating(inference.module):
                output = inference.forward(image.to(inference.module.device))
            logits = logits_of(output)
            if logits.ndim != 4 or logits.shape[1] != classes:
                found = tuple(logits.shape)
                raise UserError(f"forward: expected logits (B, {classes}, h, w), a channel a class, got {found}")
            if "features" in inference.strategy.requires:
                features_of(output)
        return


def require_dropout(strategy: Strategy, module: nn.Module) -> None:
    """Refuse MC dropout on a network that drops nothing: all samples would be equal.

    Raises:
        UserError: naming the strategy.
    """
    if "samples" in strategy.requires and not any(child.p > 0 for child in _dropouts(module)):
        raise UserError(
            f"strategy {strategy.name} samples with dropout, but the network has no dropout layer with a rate above 0; "
            "give it one or choose another strategy"
        )


@contextmanager
def dropping(module: nn.Module) -> Iterator[None]:
    """Keep dropout active in a network that is otherwise in eval mode."""
    layers = [child for child in _dropouts(module) if not child.training]
    for child in layers:
        child.train()
    try:
        yield
    finally:
        for child in layers:
            child.eval()


def _dropouts(module: nn.Module) -> list[_DropoutNd]:
    return [child for child in module.modules() if isinstance(child, _DropoutNd)]
