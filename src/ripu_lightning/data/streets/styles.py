"""The two looks of the street scenes: a clean rendering, and a dim, weathered, blurred photograph."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from ripu_lightning.data.dataset import UInt8Array
from ripu_lightning.data.streets.drawing import SKY_DEPTH, Canvas, Part

FloatArray = npt.NDArray[np.float32]


def finish_source(canvas: Canvas, rng: np.random.Generator) -> UInt8Array:
    """Sunny: a soft gradient, a few white clouds, hardly any noise."""
    image = np.asarray(canvas.image, dtype=np.float32)
    height = image.shape[0]
    image = image * np.linspace(1.06, 0.96, height, dtype=np.float32)[:, None, None] * _cast(rng, 0.04, (0.88, 1.08))
    sky = (canvas.label() == Part.SKY)[..., None]
    clouds = np.clip(_field(rng, height, image.shape[1], 5) - 0.3, 0, 1)[..., None]
    image += sky * clouds * (250 - image) * 0.7
    return _to_uint8(image + _noise(rng, (*image.shape[:2], 1), 3.0))


# How strongly each class shows coarse blotches, middling clumps and fine grain.
_TEXTURE: Mapping[Part, tuple[float, float, float]] = {
    Part.ROAD: (0.08, 0.03, 0.04),
    Part.PAVEMENT: (0.06, 0.08, 0.03),
    Part.BUILDING: (0.08, 0.07, 0.03),
    Part.FENCE: (0.05, 0.08, 0.04),
    Part.VEGETATION: (0.10, 0.18, 0.14),
    Part.TERRAIN: (0.12, 0.08, 0.10),
    Part.SKY: (0.08, 0.02, 0.00),
    Part.CAR: (0.04, 0.05, 0.01),
    Part.PERSON: (0.0, 0.06, 0.03),
    Part.RIDER: (0.0, 0.06, 0.03),
}
_SMOOTH = (0.0, 0.0, 0.0)


def finish_target(canvas: Canvas, rng: np.random.Generator) -> UInt8Array:
    """Dusk, haze or rain through a cheap lens: texture, shadows, fog, blur, cast, vignette, noise."""
    image = np.asarray(canvas.image, dtype=np.float32)
    label, depth = canvas.label(), canvas.depth()
    image = image * _texture(label, rng)[..., None]
    image *= _shadows(canvas, label, rng)[..., None]
    image = _haze(image, depth, rng)
    if rng.random() < 0.3:
        image = _rain(image, rng)
    return _lens(image, rng)


def _texture(label: UInt8Array, rng: np.random.Generator) -> FloatArray:
    height, width = label.shape
    fields = (_field(rng, height, width, 6), _field(rng, height, width, 40), _noise(rng, (height, width), 1))
    total: FloatArray = np.ones((height, width), dtype=np.float32)
    for scale, field in enumerate(fields):
        amounts = np.array([_TEXTURE.get(part, _SMOOTH)[scale] for part in Part], dtype=np.float32)
        total += amounts[label] * field
    return np.asarray(np.maximum(total, 0.2), dtype=np.float32)


def _shadows(canvas: Canvas, label: UInt8Array, rng: np.random.Generator) -> FloatArray:
    """Bands of shade across the ground, as from houses and trees."""
    mask = Image.new("L", canvas.image.size, 255)
    draw = ImageDraw.Draw(mask)
    for _ in range(rng.poisson(2)):
        near, lean, width = rng.uniform(3, 25), rng.uniform(-4, 4), rng.uniform(1, 8)
        left, right = rng.uniform(-12, 0), rng.uniform(0, 12)
        corners = [(left, near), (right, near + lean), (right, near + lean + width), (left, near + width)]
        points = [canvas.camera.point(x, 0, max(z, 1.5)) for x, z in corners]
        draw.polygon(points, fill=int(rng.uniform(120, 200)))
    factor = np.asarray(mask, dtype=np.float32) / np.float32(255)
    upright = np.array([part not in (Part.ROAD, Part.PAVEMENT, Part.TERRAIN) for part in Part])
    return np.asarray(np.maximum(factor, upright[label]), dtype=np.float32)


def _haze(image: FloatArray, depth: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Koschmieder's law: distant pixels fade into the haze; the sky keeps some of its own colour."""
    sight = np.float32(np.exp(rng.uniform(np.log(60), np.log(500))))
    veil = np.asarray(1 - np.exp(-depth / sight), dtype=np.float32)
    veil[depth >= SKY_DEPTH] = rng.uniform(0.2, 0.5)
    color = np.asarray(rng.uniform(130, 200) * rng.uniform(0.92, 1.08, 3), dtype=np.float32)
    return np.asarray(image + veil[..., None] * (color - image), dtype=np.float32)


def _rain(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    height, width = image.shape[:2]
    mask = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(mask)
    slant, length = rng.uniform(-0.3, 0.3), rng.uniform(0.03, 0.1) * height
    drops = rng.random((int(rng.integers(60, 200)), 3))
    for column, row, bright in drops.tolist():
        u, v = column * width, row * height
        draw.line([(u, v), (u + slant * length, v + length)], fill=int(40 + 60 * bright))
    weight = np.asarray(mask, dtype=np.float32)[..., None] / 255
    return np.asarray(image + weight * (205 - image), dtype=np.float32)


def _lens(image: FloatArray, rng: np.random.Generator) -> UInt8Array:
    height, width = image.shape[:2]
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    light = 1 - rng.uniform(0.05, 0.4) * (rows**2 + columns**2) / 2
    light = light + rng.uniform(-0.2, 0.2) * columns
    image = image * np.asarray(light, dtype=np.float32)[..., None] * _cast(rng, 0.07, (0.85, 1.12))
    blur = ImageFilter.BoxBlur(rng.uniform(0.2, 0.7) * height / 128)
    soft = np.asarray(Image.fromarray(_to_uint8(image)).filter(blur), dtype=np.float32)
    return _to_uint8(soft + _noise(rng, (height, width, 1), rng.uniform(1.5, 4)))


def _cast(rng: np.random.Generator, tint: float, exposure: tuple[float, float]) -> FloatArray:
    """Gain ``(3,)`` of the colour channels: one exposure, and a tint."""
    gain = rng.uniform(1 - tint, 1 + tint, 3) * rng.uniform(*exposure)
    return np.asarray(gain, dtype=np.float32)


def _field(rng: np.random.Generator, height: int, width: int, cells: int) -> FloatArray:
    """Smooth noise ``(H, W)`` of about unit spread, with ``cells`` bumps over the image's height."""
    coarse = _noise(rng, (cells, max(1, cells * width // height)), 1)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> FloatArray:
    return np.asarray(spread * rng.standard_normal(shape, dtype=np.float32), dtype=np.float32)


def _to_uint8(image: FloatArray) -> UInt8Array:
    return np.asarray(np.clip(image + 0.5, 0, 255), dtype=np.uint8)


FINISH: Mapping[str, Callable[[Canvas, np.random.Generator], UInt8Array]] = {
    "source": finish_source,
    "target": finish_target,
}
