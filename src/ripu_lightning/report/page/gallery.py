"""The gallery: for a few images of a run the network's input, scores and predictions, and what was queried and why."""

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image

from ripu_lightning.errors import UserError
from ripu_lightning.files import first_line, require_plain_file
from ripu_lightning.labels import NOT_QUERIED, VOID, Answers
from ripu_lightning.report.chart_types import COLOURS
from ripu_lightning.report.page.run_folder import Run
from ripu_lightning.untrusted import read_bounded

LARGEST_PICTURE = 2**26
"""Bytes of a PNG, and pixels of it."""
MARKS = 400
"""Most squares that are drawn over an image."""
WIDTH = 512
"""Most pixels across: more would be too large for mail."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class QueryMark:
    """One query: its box in pixels of the image, its round, the colours of answer and round, and why it was made."""

    left: float
    top: float
    width: float
    height: float
    round: int
    colour: str
    outline: str
    why: str


class ImagePanel(NamedTuple):
    """One picture of an image."""

    title: str
    alternative_text: str
    uri: str


@dataclass(frozen=True)
class GalleryImage:
    """One image; the first panel carries the marks, of which ``hidden`` more are not drawn."""

    image_id: str
    width: int
    height: int
    panels: Sequence[ImagePanel]
    marks: Sequence[QueryMark]
    hidden: int


@dataclass(frozen=True)
class RunGallery:
    """The images of one run, the colours of the classes in them, and a line for each file that cannot be read."""

    title: str
    images: Sequence[GalleryImage]
    legend: Sequence[tuple[str, str]]
    problems: Sequence[str]


def run_gallery(title: str, run: Run, count: int) -> RunGallery | None:
    """Up to ``count`` pictured images of a run; None where it has none."""
    classes, images, problems = list(run.result.iou), list[GalleryImage](), list[str]()
    colours = [_hex(color) for color in run.ledger.colors] if run.ledger else [*COLOURS] * (1 + len(classes) // 8)
    for place in sorted(path.parent for path in (run.folder / "pictures").glob("*/image.png"))[:count]:
        try:
            images.append(_PicturedImage(run, place.name, classes, colours).show())
        except UserError as error:
            problems.append(str(error))
    legend = list(zip(classes, colours, strict=False))
    return RunGallery(title, images, legend, problems) if images or problems else None


def read_picture(path: Path, kind: str) -> tuple[Pixels, Mapping[str, str]]:
    """Pixels and texts of a PNG from elsewhere, ``RGB`` ``(H, W, 3)`` or ``L`` ``(H, W)``.

    Raises:
        UserError: it cannot be read, or is no such PNG.
    """
    try:
        require_plain_file(path)
        with Image.open(BytesIO(read_bounded(path, LARGEST_PICTURE)), formats=["PNG"]) as picture:
            if picture.width * picture.height > LARGEST_PICTURE or picture.mode not in {kind, kind.replace("L", "P")}:
                raise ValueError(f"{picture.width}x{picture.height} {picture.mode}, expected {kind}")
            pixels = np.array(picture, dtype=np.uint8)
            return pixels, {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
    except UserError:
        raise
    except Exception as error:  # a damaged file makes the decoder raise nearly anything
        raise UserError(f"{path}: picture cannot be read ({first_line(error)})") from error


class _PicturedImage:
    """One image of a run's ``pictures`` folder, after each of its rounds."""

    def __init__(self, run: Run, name: str, classes: Sequence[str], colours: Sequence[str]) -> None:
        self._folder, self._name, self._labels, self._classes = run.folder / "pictures", name, run.labels, classes
        self._palette = np.zeros((256, 3), dtype=np.uint8)
        self._palette[: len(colours)] = [list(bytes.fromhex(colour[1:])) for colour in colours]
        self._image = read_picture(self._folder / name / "image.png", "RGB")[0]
        self._map = cache(self._read_map)
        found = (path.parent.parent.name for path in self._folder.glob(f"round_*/{name}/prediction.png"))
        numbers = [folder.removeprefix("round_") for folder in found]
        self._rounds = sorted(int(number) for number in numbers if number.isdecimal() and len(number) < 6)

    def show(self) -> GalleryImage:
        queried = self._labels.queried_images if self._labels else ()
        image_id = next((each for each in queried if each.replace("/", "__") == self._name), None)
        marks = [] if image_id is None else self._marks(image_id)
        # Of each round the first queries, if not all can be drawn.
        parts = [[mark for mark in marks if mark.round == number] for number in sorted({mark.round for mark in marks})]
        drawn = [mark for part in parts for mark in part[: MARKS // len(parts)]]
        panels = [ImagePanel("queries", f"image {self._name} with its queries", _image_uri(self._image))]
        panels += [ImagePanel("image", f"image {self._name}", panels[0].uri)] if marks else []
        height, width = self._image.shape[:2]
        panels += [*self._class_panels(), *self._score_panels()]
        return GalleryImage(image_id or self._name, width, height, panels, drawn, len(marks) - len(drawn))

    def _read_map(self, number: int, kind: str) -> tuple[Pixels, Mapping[str, str]] | None:
        """A map of the network after so many rounds, with its texts; None where there is none of the image's size."""
        path = self._folder / f"round_{number}" / self._name / f"{kind}.png"
        found = read_picture(path, "L") if path.exists() else None
        return found if found and found[0].shape == self._image.shape[:2] else None

    def _class_panels(self) -> list[ImagePanel]:
        truth = self._folder / self._name / "truth.png"
        maps = {"truth": read_picture(truth, "L")} if truth.exists() else {}
        for number in dict.fromkeys([*self._rounds[:1], *self._rounds[-1:]]):
            found = self._map(number, "prediction")
            if found:
                maps[f"prediction {f'after round {number}' if number else 'before any label'}"] = found
        return [
            ImagePanel(title, f"{title} of image {self._name}", _class_uri(pixels, self._palette))
            for title, (pixels, _) in maps.items()
        ]

    def _score_panels(self) -> list[ImagePanel]:
        """The maps of the last round that a pictured network selected."""
        number = next((each for each in reversed(self._rounds) if self._map(each, "score")), None)
        kinds = () if number is None else ("score", "impurity", "uncertainty")
        return [
            ImagePanel(
                f"{kind} for round {number + 1}", f"{kind} of {self._name}, high is bright", _score_uri(found[0])
            )
            for kind in kinds
            if number is not None and (found := self._map(number, kind))
        ]

    def _marks(self, image_id: str) -> list[QueryMark]:
        marks = []
        for entry in self._labels.rounds if self._labels else ():
            answers = self._labels.answers(image_id, entry.number) if self._labels else None
            marks += self._marks_of(answers, entry.number) if answers else []
        return marks

    def _marks_of(self, answers: Answers, number: int) -> list[QueryMark]:
        least = max(self._image.shape[:2]) / 90  # or a pixel of a large image would not be seen
        last = len(self._labels.rounds) if self._labels else number
        outline = _hex([255 * (number - 1) // max(1, last - 1)] * 3)  # black for the first round, white for the last
        patches = np.split(answers.values, np.cumsum(answers.boxes[:-1, 2] * answers.boxes[:-1, 3]))
        found = []
        queries = zip(answers.boxes.tolist(), answers.centres.tolist(), patches, answers.scores.tolist(), strict=True)
        for rank, ((top, left, height, width), centre, patch, score) in enumerate(queries, start=1):
            wide, tall = max(width, least), max(height, least)
            counts = Counter(patch[patch != NOT_QUERIED].tolist()).most_common()
            colour = _hex(self._palette[counts[0][0] if counts else VOID].tolist())
            classes = ", ".join(f"{self._class(value)} ({count})" for value, count in counts[:4])
            pixels = f"pixel{'s' * (sum(count for _, count in counts) != 1)}"
            head = f"round {number}, query {rank} of {len(answers)} in this image; score {score:.4g}"
            why = "; ".join([head, *self._network_at(number - 1, *centre), f"answer: {classes} {pixels}"])
            corner = left + (width - wide) / 2, top + (height - tall) / 2
            found.append(QueryMark(*corner, wide, tall, number, colour, outline, why))
        return found

    def _network_at(self, number: int, row: int, column: int) -> list[str]:
        """Impurity, uncertainty and prediction of the network after so many rounds at a pixel."""
        if row >= self._image.shape[0] or column >= self._image.shape[1]:
            return []
        texts = []
        for kind in ("impurity", "uncertainty"):
            if found := self._map(number, kind):
                texts.append(f"{kind} {found[0][row, column] / 255 * _number(found[1].get('maximum')):.2f}")
        if found := self._map(number, "prediction"):
            texts.append(f"predicted: {self._class(int(found[0][row, column]))}")
        return texts

    def _class(self, value: int) -> str:
        return self._classes[value] if value < len(self._classes) else "void"


def _hex(colour: Sequence[int]) -> str:
    return "#" + bytes(colour).hex()


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _image_uri(image: Pixels) -> str:
    """An RGB image ``(H, W, 3)`` as JPEG."""
    return _uri(_smaller(image, Image.Resampling.BOX), "JPEG", quality=82)


def _class_uri(labels: Pixels, palette: Pixels) -> str:
    """Class indices ``(H, W)`` in the colours ``(256, 3)`` of a palette."""
    small = _smaller(labels, Image.Resampling.NEAREST)
    small.putpalette(palette.tobytes())
    return _uri(small, "PNG", optimize=True)


def _score_uri(score: Pixels) -> str:
    """A map ``(H, W)``, 0..255, from dark to bright."""
    small = np.array(_smaller(score, Image.Resampling.BOX))
    return _uri(Image.fromarray(colormaps["viridis"](small, bytes=True)[..., :3]), "JPEG", quality=80)


def _smaller(pixels: Pixels, resampling: Image.Resampling) -> Image.Image:
    height = max(1, round(pixels.shape[0] * WIDTH / pixels.shape[1]))
    picture = Image.fromarray(pixels)
    return picture if picture.width <= WIDTH else picture.resize((WIDTH, height), resampling)


def _uri(picture: Image.Image, kind: str, **options: int | bool) -> str:
    content = BytesIO()
    picture.save(content, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(content.getvalue()).decode()}"
