"""Street scenes drawn on the fly: a source and a target domain that need no download."""

import json
from collections import OrderedDict
from hashlib import sha256
from typing import Any, Literal
from zlib import crc32

import numpy as np

from ripu_lightning.data.classes import load_class_map
from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array
from ripu_lightning.data.streets.drawing import Canvas
from ripu_lightning.data.streets.recipes import RECIPES
from ripu_lightning.data.streets.scene import Scene
from ripu_lightning.data.streets.styles import FINISH
from ripu_lightning.errors import UserError, suggest

VERSION = 1
"""Of the drawing code: to be raised with every change that makes other pictures or labels."""
MIN_SIZE = 32
_CACHE_BYTES = 64 * 2**20


class Streets(SegmentationDataset):
    """Road scenes in perspective with exact labels, 13 classes (class map ``streets``).

    ``source`` looks like a clean rendering in the sun; ``target`` has other layouts, cameras and class
    frequencies, and texture, haze, rain, blur and noise. A sample depends on (seed, domain, split, index)
    and the size alone, never on the order of access.

    Args:
        domain: ``"source"`` or ``"target"``.
        split: any name; another name gives other scenes.
        length: number of images.
        height: image height in pixels, at least 32.
        width: image width in pixels, at least 32.
        seed: non-negative seed of all scenes.

    Raises:
        UserError: an unknown domain, a length below 1, a size below 32 or a negative seed.

    >>> streets = Streets("target", "train", length=2, height=64, width=96)
    >>> streets.ids, streets.image(1).shape, streets.label(1).shape
    (['target_train_0000', 'target_train_0001'], (64, 96, 3), (64, 96))
    """

    def __init__(
        self,
        domain: Literal["source", "target"],
        split: str,
        length: int,
        height: int = 128,
        width: int = 256,
        seed: int = 0,
    ) -> None:
        _check(domain, length, height, width, seed)
        self.classes = load_class_map("streets")
        self.ids = [f"{domain}_{split}_{index:04d}" for index in range(length)]
        self.domain, self.split, self.seed = domain, split, seed
        self.height, self.width = height, width
        self._capacity = max(2, _CACHE_BYTES // (4 * height * width))
        self._cache: OrderedDict[int, tuple[UInt8Array, UInt8Array]] = OrderedDict()

    def image(self, index: int) -> UInt8Array:
        """RGB image ``(H, W, 3)`` uint8."""
        return self._sample(index)[0].copy()

    def label(self, index: int) -> UInt8Array:
        """Truth ``(H, W)`` uint8 in ``0..12``; no pixel is ignored."""
        return self._sample(index)[1].copy()

    def size(self, index: int) -> tuple[int, int]:
        """``(H, W)``, the same for every image."""
        return self.height, self.width

    def fingerprint(self) -> str:
        """SHA-256 of the arguments, the classes and the version of the drawing code."""
        recipe = [VERSION, self.domain, self.split, len(self), self.height, self.width, self.seed]
        return sha256(json.dumps([recipe, self.classes.names]).encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """Workers get the recipe, not the rendered images."""
        return {**self.__dict__, "_cache": OrderedDict()}

    def _sample(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        index = range(len(self))[index]
        if index not in self._cache:
            self._cache[index] = self._render(index)
            if len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
        self._cache.move_to_end(index)
        return self._cache[index]

    def _render(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        counters = [self.seed, crc32(self.domain.encode()), crc32(self.split.encode()), index]
        rng = np.random.default_rng(np.random.SeedSequence(counters))
        scene = Scene(RECIPES[self.domain], (self.height, self.width), rng)
        canvas = scene.paint(Canvas(scene.camera))
        return FINISH[self.domain](canvas, rng), canvas.label()


def _check(domain: str, length: int, height: int, width: int, seed: int) -> None:
    if domain not in RECIPES:
        raise UserError(f"streets: no domain {domain!r}; {suggest(domain, RECIPES)}")
    if length < 1:
        raise UserError(f"streets: length {length} gives no image; ask for at least 1")
    if min(height, width) < MIN_SIZE:
        raise UserError(f"streets: size {height}x{width} is too small to draw; use at least {MIN_SIZE} a side")
    if seed < 0:
        raise UserError(f"streets: seed {seed} is negative; use 0 or more")
