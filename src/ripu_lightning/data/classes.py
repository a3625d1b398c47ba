"""Class maps: the names, colours and file ids of a protocol's classes, read from one YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ripu_lightning.errors import UserError, suggest

MAX_CLASSES = 254  # 254 and 255 are taken: "not asked" in the label store, and "ignore" everywhere


@dataclass(frozen=True)
class ClassMap:
    """The classes of one protocol; position in ``names`` is the training id.

    Args:
        names: class names, unique.
        colors: one RGB triple (0..255) a class.
        ids: file values a class is stored as; by default its position.
        ignore: file values that stand for "ignored".
        subsets: further means that evaluation reports, each over some of the classes, by name.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ids: tuple[tuple[int, ...], ...] = ()
    ignore: tuple[int, ...] = (255,)
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = field(default="class map", compare=False)

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple((i,) for i in range(len(self.names))))
        self._validate()

    def __len__(self) -> int:
        return len(self.names)

    def lookup(self) -> npt.NDArray[np.int16]:
        """``(256,)`` table from file value to training id; 255 where ignored, -1 where the map is silent."""
        table = np.full(256, -1, dtype=np.int16)
        table[list(self.ignore)] = 255
        for train_id, values in enumerate(self.ids):
            table[list(values)] = train_id
        return table

    def palette(self) -> npt.NDArray[np.uint8]:
        """``(256, 3)`` RGB palette; ignored pixels are black."""
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[: len(self)] = np.array(self.colors, dtype=np.uint8)
        return palette

    def _validate(self) -> None:
        if not 2 <= len(self.names) <= MAX_CLASSES:
            raise UserError(f"{self.source}: {len(self.names)} classes; expected 2 to {MAX_CLASSES}")
        if len(set(self.names)) != len(self.names):
            raise UserError(f"{self.source}: class names repeat; give each class its own name")
        if not len(self.names) == len(self.colors) == len(self.ids):
            raise UserError(f"{self.source}: names, colors and ids differ in number; give one of each a class")
        values = [value for group in (*self.ids, self.ignore) for value in group]
        if not all(0 <= value <= 255 for value in values):
            raise UserError(f"{self.source}: file ids must lie in 0..255")
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise UserError(f"{self.source}: file ids {repeated} are given twice; each belongs to one class")


def load_class_map(name_or_path: str) -> ClassMap:
    """A class map by the name of a built-in one, or from a YAML file.

    The YAML holds ``classes``, a list of ``{name, color: [r, g, b], ids: [file values]}`` (``ids`` may be left
    out: then position), and ``ignore``, the list of ignored file values (``[255]`` unless given).

    Raises:
        UserError: no such map, or a YAML that does not describe one.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise UserError(f"data.classes: no file {path}; give a class map YAML")
        return _parse(path.read_bytes(), str(path))
    folder = resources.files("ripu_lightning.data") / "class_maps"
    known = [entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    if name_or_path not in known:
        raise UserError(f"data.classes: no class map {name_or_path!r}; {suggest(name_or_path, known)}")
    return _parse((folder / f"{name_or_path}.yaml").read_bytes(), name_or_path)


def _parse(content_bytes: bytes, source: str) -> ClassMap:
    try:
        content = yaml.safe_load(content_bytes.decode("utf-8"))
        entries: Sequence[Mapping[str, Any]] = content["classes"]
        return ClassMap(
            names=tuple(str(entry["name"]) for entry in entries),
            colors=tuple(_color(entry["color"]) for entry in entries),
            ids=tuple(_integers(entry.get("ids", [i])) for i, entry in enumerate(entries)),
            ignore=_integers(content.get("ignore", [255])),
            source=source,
        )
    except UserError:
        raise
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{source}: not a class map ({reason}); expected 'classes: [{{name, color: [r, g, b], ids: [..]}}]'"
        ) from error


def _color(value: Any) -> tuple[int, int, int]:
    channels = _integers(value)
    if len(channels) != 3 or not all(0 <= channel <= 255 for channel in channels):
        raise ValueError(f"color {value} is not three numbers in 0..255")
    return channels[0], channels[1], channels[2]


def _integers(value: Any) -> tuple[int, ...]:
    # Strictly: int() would read "12" as the ids 1 and 2, and 7.5 as 7.
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise ValueError(f"{value!r} is not a list of whole numbers")
    return tuple(value)
