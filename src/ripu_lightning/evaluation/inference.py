"""From a network's logits to predictions: one plain pass, or the mean of mirrored, scaled and windowed passes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ripu_lightning.errors import InvalidArgument, require_choice, require_number
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

    Raises:
        InvalidArgument: a value out of range.
    """

    mirror: bool = False
    scales: Sequence[float] = (1.0,)
    window: Sequence[int] | None = None
    overlap: float = 0.5

    def __post_init__(self) -> None:
        require_choice("Inference", "mirror", self.mirror, (True, False))
        factors = "a list of factors above 0 and up to 16"
        if not all(0 < scale <= 16 for scale in _list_of(float, "Inference", "scales", self.scales, factors)):
            raise InvalidArgument("Inference", "scales", f"must be {factors}, got {self.scales!r}")
        if self.window is not None:
            window = _list_of(int, "Inference", "window", self.window, "[height, width] in pixels, or None")
            if len(window) != 2 or min(window) < 1:
                raise InvalidArgument("Inference", "window", f"must be [height, width] in pixels, got {window!r}")
            object.__setattr__(self, "window", tuple(window))
        require_number("Inference", "overlap", self.overlap)
        if self.overlap >= 1:
            raise InvalidArgument("Inference", "overlap", f"must be below 1, got {self.overlap}")
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
        return {"title": self.title or "plain", **asdict(self), "overlap": overlap}

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
        scores = network(seen).logits if self.window is None else self._windows(network, seen, self.window)
        return scores.flip(-1) if mirrored else scores

    def _at_size(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        resized = resize_logits(scores, size)
        return resized.softmax(dim=1) if self.window is None else resized

    def _windows(self, network: Network, images: Tensor, window: Sequence[int]) -> Tensor:
        """Probabilities at the size of ``images``, averaged over the windows that contain each pixel."""
        size = images.shape[-2:]
        height, width = (min(pair) for pair in zip(window, size, strict=True))
        counts = torch.zeros(size, device=images.device)
        total: Tensor | None = None
        for top in _starts(size[0], height, self.overlap):
            for left in _starts(size[1], width, self.overlap):
                here = (..., slice(top, top + height), slice(left, left + width))
                found = resize_logits(network(images[here]).logits, (height, width)).softmax(dim=1)
                total = found.new_zeros(*found.shape[:2], *size) if total is None else total
                total[here] += found
                counts[here] += 1
        assert total is not None
        return total.div_(counts)


def _starts(length: int, window: int, overlap: float) -> list[int]:
    stride = max(1, int(window * (1 - overlap)))
    return [*range(0, length - window, stride), length - window]


def _scaled(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    size = tuple(max(1, round(side * scale)) for side in images.shape[-2:])
    return interpolate(images, size=size, mode="bilinear", align_corners=True)


def _list_of(kind: type, owner: str, argument: str, values: object, expected: str) -> Sequence[Any]:
    if not isinstance(values, Sequence) or not values or any(type(value) not in (kind, int) for value in values):
        raise InvalidArgument(owner, argument, f"must be {expected}, got {values!r}")
    return values
