"""The gallery: for a few images of a run what the network saw, scored, was told and made of it."""

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ripu_lightning.errors import UserError
from ripu_lightning.files import first_line, require_plain_file
from ripu_lightning.labels import NOT_ASKED, VOID, Answers, LabelStore
from ripu_lightning.labels.answers import Int32Array, UInt8Array, box_sizes
from ripu_lightning.report.page.data_uri import class_uri, image_uri, score_uri
from ripu_lightning.report.page.runs import Run
from ripu_lightning.untrusted import read_bounded

LARGEST_PICTURE = 2**26
"""Bytes of a PNG, and pixels of it."""
MARKS = 400
"""Most squares that are drawn over an image."""
_FALLBACK = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75))


@dataclass(frozen=True)
class Mark:
    """One pick: its box in pixels of the image, the round, the colours of answer and round, and why it was picked."""

    left: float
    top: float
    width: float
    height: float
    round: int
    colour: str
    outline: str
    why: str


@dataclass(frozen=True)
class Shot:
    """One image: panels ``(title, alternative text, data URI)``, the first one of which carries the marks."""

    image_id: str
    width: int
    height: int
    panels: Sequence[tuple[str, str, str]]
    marks: Sequence[Mark]
    hidden: int


@dataclass(frozen=True)
class Exhibit:
    """The shots of one run, and the colours of the classes in them."""

    title: str
    shots: Sequence[Shot]
    legend: Sequence[tuple[str, str]]
    faults: Sequence[str] = field(default=())


def exhibit(title: str, run: Run, count: int) -> Exhibit | None:
    """Up to ``count`` pictured images of a run; None where it has none."""
    folder, classes = run.folder / "pictures", list(run.result.iou)
    colours = _colours(run, len(classes))
    shots, faults = list[Shot](), list[str]()
    for place in sorted(path.parent for path in folder.glob("*/image.png"))[:count]:
        try:
            shots.append(_Pictured(folder, place.name, run.labels, classes, colours).shot())
        except UserError as error:
            faults.append(str(error))
    legend = [(name, _hex(colour)) for name, colour in zip(classes, colours, strict=False)]
    return Exhibit(title, shots, legend, faults) if shots or faults else None


def read_picture(path: Path, kind: str) -> tuple[UInt8Array, Mapping[str, str]]:
    """Pixels and texts of a PNG from elsewhere.

    Args:
        path: of the file.
        kind: ``RGB`` ``(H, W, 3)`` or ``L`` ``(H, W)``.

    Raises:
        UserError: it can not be read, or is no such PNG.
    """
    try:
        require_plain_file(path)
        with Image.open(io.BytesIO(read_bounded(path, LARGEST_PICTURE)), formats=["PNG"]) as picture:
            modes = {"L", "P"} if kind == "L" else {kind}
            if picture.width * picture.height > LARGEST_PICTURE or picture.mode not in modes:
                raise ValueError(f"{picture.width}x{picture.height} {picture.mode}, expected {kind}")
            pixels = np.array(picture, dtype=np.uint8)
            return pixels, {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
    except UserError:
        raise
    except Exception as error:  # a damaged file makes the decoder raise nearly anything
        raise UserError(f"{path}: picture can not be read ({first_line(error)})") from error


class _Pictured:
    """One image of a run's ``pictures`` folder, after each of its rounds."""

    def __init__(
        self,
        folder: Path,
        name: str,
        labels: LabelStore | None,
        classes: Sequence[str],
        colours: Sequence[tuple[int, int, int]],
    ) -> None:
        self._folder, self._name, self._labels, self._classes = folder, name, labels, classes
        self._palette = np.zeros((256, 3), dtype=np.uint8)
        self._palette[: len(colours)] = colours
        self._image = read_picture(folder / name / "image.png", "RGB")[0]
        self._read: dict[tuple[int, str], tuple[UInt8Array, Mapping[str, str]] | None] = {}

    def shot(self) -> Shot:
        """Panels and marks."""
        height, width = self._image.shape[:2]
        image_id = next((each for each in self._touched if each.replace("/", "__") == self._name), None)
        marks = [] if image_id is None else self._marks(image_id)
        shown = _spread(marks, MARKS)
        panels = [("what was bought", f"image {self._name} with the bought regions", image_uri(self._image))]
        panels += [("image", f"image {self._name}", panels[0][2])] if marks else []
        panels += [*self._labelled(), *self._scores()]
        return Shot(image_id or self._name, width, height, panels, shown, len(marks) - len(shown))

    @property
    def _touched(self) -> Sequence[str]:
        return self._labels.touched if self._labels else ()

    @cached_property
    def _rounds(self) -> list[int]:
        found = (path.parent.parent.name for path in self._folder.glob(f"round_*/{self._name}/prediction.png"))
        numbers = [name.removeprefix("round_") for name in found]
        return sorted(int(number) for number in numbers if number.isdecimal() and len(number) < 6)

    def _map(self, number: int, kind: str) -> tuple[UInt8Array, Mapping[str, str]] | None:
        """A map of the network after so many rounds, with its texts; None where there is none of the image's size."""
        key = number, kind
        if key not in self._read:
            path = self._folder / f"round_{number}" / self._name / f"{kind}.png"
            found = read_picture(path, "L") if path.exists() else None
            self._read[key] = found if found and found[0].shape == self._image.shape[:2] else None
        return self._read[key]

    def _labelled(self) -> list[tuple[str, str, str]]:
        truth = self._folder / self._name / "truth.png"
        maps = [("truth", read_picture(truth, "L")[0])] if truth.exists() else []
        for number in dict.fromkeys([*self._rounds[:1], *self._rounds[-1:]]):
            found = self._map(number, "prediction")
            when = "before any label" if number == 0 else f"after round {number}"
            maps += [(f"prediction {when}", found[0])] if found else []
        return [(title, f"{title} of image {self._name}", class_uri(pixels, self._palette)) for title, pixels in maps]

    def _scores(self) -> list[tuple[str, str, str]]:
        """The maps of the last round that was bought with a pictured network."""
        number = next((each for each in reversed(self._rounds) if self._map(each, "score")), None)
        if number is None:
            return []
        found = [(kind, self._map(number, kind)) for kind in ("score", "impurity", "uncertainty")]
        title = "{} for round " + str(number + 1)
        return [
            (title.format(kind), f"{kind} of image {self._name}, bright is high", score_uri(each[0]))
            for kind, each in found
            if each
        ]

    def _marks(self, image_id: str) -> list[Mark]:
        marks = []
        for entry in self._labels.rounds if self._labels else ():
            answers = self._labels.answers(image_id, entry.number) if self._labels else None
            marks += self._marks_of(answers, entry.number) if answers else []
        return marks

    def _marks_of(self, answers: Answers, number: int) -> list[Mark]:
        least = max(self._image.shape[:2]) / 90  # or a pixel of a large image would not be seen
        ends = np.cumsum(box_sizes(answers.boxes))
        patches = np.split(answers.values, ends[:-1])
        found = []
        for rank, (box, centre, patch) in enumerate(zip(answers.boxes, answers.centres, patches, strict=True), start=1):
            top, left, height, width = map(float, box)
            wide, tall = max(width, least), max(height, least)
            counts = Counter(patch[patch != NOT_ASKED].tolist())
            answered = counts.most_common(1)[0][0] if counts else VOID
            score, answer = float(answers.scores[rank - 1]), f"answer: {self._text(counts)}"
            head = f"round {number}, pick {rank} of {len(answers)} in this image; score {score:.4g}"
            why = "; ".join([head, *self._at(number - 1, centre), answer])
            corner = left + (width - wide) / 2, top + (height - tall) / 2
            colour = _hex(self._palette[answered].tolist())
            found.append(Mark(*corner, wide, tall, number, colour, self._outline(number), why))
        return found

    def _outline(self, number: int) -> str:
        """From black for the first round to white for the last."""
        last = len(self._labels.rounds) if self._labels else number
        return _hex([255 * (number - 1) // max(1, last - 1)] * 3)

    def _at(self, number: int, centre: Int32Array) -> list[str]:
        """What the network after so many rounds said about a pixel."""
        row, column = map(int, centre)
        texts = list[str]()
        if row >= self._image.shape[0] or column >= self._image.shape[1]:
            return texts
        for kind in ("impurity", "uncertainty"):
            found = self._map(number, kind)
            if found:
                texts.append(f"{kind} {found[0][row, column] / 255 * _number(found[1].get('maximum')):.2f}")
        prediction = self._map(number, "prediction")
        return [*texts, f"predicted: {self._class(int(prediction[0][row, column]))}"] if prediction else texts

    def _text(self, counts: Mapping[int, int]) -> str:
        parts = [f"{self._class(value)} ({count})" for value, count in Counter(counts).most_common(4)]
        return f"{', '.join(parts)} pixel{'s' * (sum(counts.values()) != 1)}"

    def _class(self, value: int) -> str:
        return self._classes[value] if value < len(self._classes) else "void"


def _colours(run: Run, count: int) -> list[tuple[int, int, int]]:
    if run.ledger:
        return [(red, green, blue) for red, green, blue in run.ledger.colors]
    return [_FALLBACK[index % len(_FALLBACK)] for index in range(count)]


def _hex(colour: Sequence[int]) -> str:
    return "#" + bytes(colour).hex()


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _spread(marks: Sequence[Mark], most: int) -> list[Mark]:
    """At most so many, of all rounds, the first picks of each."""
    rounds = sorted({mark.round for mark in marks})
    each = most // max(1, len(rounds))
    return [mark for number in rounds for mark in [every for every in marks if every.round == number][:each]]
