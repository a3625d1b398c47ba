"""Street scenes drawn on the fly: a source and a target domain that need no download."""

import json
from collections import OrderedDict
from hashlib import sha256
from typing import Any, Literal
from zlib import crc32

import numpy as np

from ripu_lightning.class_map import load_class_map
from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array
from ripu_lightning.data.streets.drawing import Canvas
from ripu_lightning.data.streets.recipes import RECIPES
from ripu_lightning.data.streets.scene import Scene
from ripu_lightning.data.streets.styles import FINISH
from ripu_lightning.errors import InvalidArgument, require_integer, suggest

VERSION = 1
"""Of the drawing code: must be raised with every change that gives other images or labels."""
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
        InvalidArgument: an unknown domain, a length below 1, a size below 32 or a negative seed.

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
        if domain not in RECIPES:
            raise InvalidArgument("Streets", "domain", f"is {domain!r}; {suggest(domain, RECIPES)}")
        require_integer("Streets", "length", length, least=1)
        require_integer("Streets", "height", height, least=MIN_SIZE)
        require_integer("Streets", "width", width, least=MIN_SIZE)
        require_integer("Streets", "seed", seed)
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
        """Workers get the arguments, not the drawn images."""
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
