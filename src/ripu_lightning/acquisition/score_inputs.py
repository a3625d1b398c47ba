"""The inputs of a strategy's score: outputs of the network, never the ground truth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

REQUIREMENTS = ("logits", "features", "samples", "regions", "answers", "source_statistics", "pool_statistics")
"""The inputs that a strategy may require; the loop runs only the passes that provide them."""


class Answered(NamedTuple):
    """The queries of an image that were answered in earlier rounds, in the order of the rounds.

    Attributes:
        positions: ``(m,)`` int64, flat positions ``row * W + column`` of their centres.
        void: ``(m,)`` floating in 0..1, the share of each query's pixels that was answered as void.
    """

    positions: Tensor
    void: Tensor


@dataclass(frozen=True)
class ScoreInputs:
    """A batch of images of one size as the network sees it; inputs that the strategy does not require are None.

    Attributes:
        logits: ``(B, C, H, W)`` at the label's own resolution, network in eval mode.
        image_ids: one id an image.
        round: number of the current round, from 1.
        seed: the run's seed.
        features: ``(B, D, h, w)`` penultimate features at the network's own stride.
        samples: several ``(B, C, H, W)`` logits, each with other units dropped (MC dropout).
        regions: ``(B, H, W)`` int64 superpixels, numbered from 0: for scores if the region type segments images, for
            statistics only if the strategy requires them.
        answers: of one image (B = 1); None in the first round and for the source.

    >>> import torch
    >>> inputs = ScoreInputs(torch.rand(2, 19, 8, 16), ["a", "b"], round=1, seed=0)
    >>> inputs.shape, [image.image_ids for image in inputs.split()]
    ((8, 16), [['a'], ['b']])
    """

    logits: Tensor
    image_ids: Sequence[str]
    round: int
    seed: int
    features: Tensor | None = None
    samples: Iterable[Tensor] | None = None
    regions: Tensor | None = None
    answers: Answered | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(H, W)``."""
        return int(self.logits.shape[2]), int(self.logits.shape[3])

    def split(self) -> list["ScoreInputs"]:
        """The images one by one, without their samples and answers."""
        images = []
        for position, image_id in enumerate(self.image_ids):
            here = slice(position, position + 1)
            features = None if self.features is None else self.features[here]
            regions = None if self.regions is None else self.regions[here]
            images.append(ScoreInputs(self.logits[here], [image_id], self.round, self.seed, features, regions=regions))
        return images

    def spread(self, values: Tensor) -> Tensor:
        """A value for each image ``(B,)`` as score maps ``(B, H, W)`` on the device of the logits."""
        return values.to(self.logits.device)[:, None, None].expand(-1, *self.shape)
