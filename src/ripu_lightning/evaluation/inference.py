"""From a network's logits to predictions: one plain pass, or the mean of mirrored, scaled and windowed passes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from ripu_lightning.errors import InvalidArgument, require_choice, require_integer
from ripu_lightning.evaluation.sliding_window import SlidingWindow, require_overlap, require_window
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.networks.resize import resize_logits

Network = Callable[[Tensor], SegmentationOutput]


@dataclass(frozen=True)
class Inference:
    """How evaluation turns a network's logits into classes.

    The logits of each view of the input (every scale, each also mirrored) are mirrored back and resized to the
    label's size; the class with the highest mean probability is predicted. Xie et al. (2022) average the image and its
    mirror. All resizing is bilinear with aligned corners.

    Args:
        mirror: also use the input mirrored left to right.
        scales: factors by which the input is resized, above 0 and up to 16.
        window: ``(h, w)`` in pixels of a sliding window over the scaled input; None uses the complete input. The last
            window of a row or column is shifted inside. Probabilities are averaged where windows overlap, then resized
            to the label's size. A side shorter than the window is used completely.
        overlap: smallest share of a window that the next one covers again, from 0 to below 1.
        window_batch: windows of each image in one forward pass, 1 or more.

    Raises:
        InvalidArgument: a value out of range.
    """

    mirror: bool = False
    scales: Sequence[float] = (1.0,)
    window: Sequence[int] | None = None
    overlap: float = 0.5
    window_batch: int = 4

    def __post_init__(self) -> None:
        require_choice("Inference", "mirror", self.mirror, (True, False))
        factors = "a list of factors above 0 and up to 16"
        if not _numbers(self.scales) or not all(0 < scale <= 16 for scale in self.scales):
            raise InvalidArgument("Inference", "scales", f"must be {factors}, got {self.scales!r}")
        if self.window is not None:
            require_window("Inference", "window", self.window)
            object.__setattr__(self, "window", tuple(self.window))
        require_overlap("Inference", self.overlap)
        require_integer("Inference", "window_batch", self.window_batch, least=1)
        object.__setattr__(self, "scales", tuple(map(float, self.scales)))

    @property
    def is_plain(self) -> bool:
        """Whether prediction is one pass over the complete input."""
        return not self.mirror and self.scales == (1.0,) and self.window is None

    @property
    def title(self) -> str:
        """Description for tables; empty for plain inference.

        >>> Inference(mirror=True, scales=(0.75, 1), window=(512, 512)).title
        'mirrored, scales 0.75 1, window 512x512 overlap 0.5'
        """
        parts = ["mirrored"] if self.mirror else []
        if self.scales != (1.0,):
            parts.append("scales " + " ".join(f"{scale:g}" for scale in self.scales))
        if self.window is not None:
            parts.append(f"window {self.window[0]}x{self.window[1]} overlap {self.overlap:g}")
        return ", ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Plain containers for result files; equal for equal predictions."""
        overlap = None if self.window is None else self.overlap
        values = {key: value for key, value in asdict(self).items() if key != "window_batch"}
        return {"title": self.title or "plain", **values, "overlap": overlap}

    def predict(self, network: Network, images: Tensor, sizes: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
        """Predict one image after the other, so that only one is in memory at its label's size.

        Args:
            network: gives logits at any stride.
            images: ``(B, 3, h, w)`` normalised.
            sizes: ``(H, W)`` of each image's label.

        Yields:
            Class indices ``(H, W)`` int64.
        """
        if not sizes:
            return
        if self.is_plain:  # the highest logit has the highest probability
            logits = network(images).logits
            found: Iterator[Tensor] = (
                resize_logits(logits[index : index + 1], size)[0] for index, size in enumerate(sizes)
            )
        else:
            found = self.probabilities(network, images, sizes)
        for scores in found:
            yield scores.argmax(dim=0)

    def probabilities(self, network: Network, images: Tensor, sizes: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
        """The mean over all views, one image after the other; arguments as for :meth:`predict`.

        Yields:
            Class probabilities ``(C, H, W)`` float32.
        """
        views = [
            self._view(network, _scaled(images, scale), mirrored)
            for scale in self.scales
            for mirrored in ((False, True) if self.mirror else (False,))
        ]
        for index, size in enumerate(sizes):
            parts = (self._at_size(view[index : index + 1], size) for view in views)
            yield reduce(Tensor.add, parts)[0] / len(views)

    def _view(self, network: Network, images: Tensor, mirrored: bool) -> Tensor:
        """Logits at the network's stride, or the probabilities of the windows."""
        seen = images.flip(-1) if mirrored else images
        if self.window is None:
            scores = network(seen).logits
        else:
            sliding = SlidingWindow(self.window, self.overlap, self.window_batch)
            scores, _ = sliding.run(lambda windows: (network(windows).logits, None), seen)
        return scores.flip(-1) if mirrored else scores

    def _at_size(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        resized = resize_logits(scores, size)
        return resized.softmax(dim=1) if self.window is None else resized


def _scaled(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    size = tuple(max(1, round(side * scale)) for side in images.shape[-2:])
    return interpolate(images, size=size, mode="bilinear", align_corners=True)


def _numbers(values: object) -> bool:
    return isinstance(values, Sequence) and bool(values) and all(type(value) in (float, int) for value in values)
