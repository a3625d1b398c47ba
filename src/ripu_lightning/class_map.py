"""Class maps: the names, colours and file ids of classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ripu_lightning.errors import InvalidArgument, UserError, suggest
from ripu_lightning.untrusted import is_line, parse_yaml, read_bounded

MAX_CLASSES = 254  # the label store writes 254 for "not queried", and 255 is "ignored" everywhere


@dataclass(frozen=True)
class ClassMap:
    """The classes of one protocol; the position in ``names`` is the training id.

    Args:
        names: class names, unique.
        colors: one RGB triple (0..255) for each class; by default from :func:`default_colors`.
        ids: file values of each class; by default its position.
        ignore: file values that are ignored.
        subsets: by name, some of the classes, over which evaluation reports a further mean.
        source: what error messages name.

    Raises:
        UserError: names, colors or ids that do not describe classes.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] = ()
    ids: tuple[tuple[int, ...], ...] = ()
    ignore: tuple[int, ...] = (255,)
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = field(default="class map", compare=False)

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple((i,) for i in range(len(self.names))))
        if not self.colors:
            object.__setattr__(self, "colors", default_colors([None] * len(self.names)))
        self._validate()

    @classmethod
    def from_names(cls, names: Sequence[str]) -> "ClassMap":
        """The map of classes whose ids are their positions.

        >>> ClassMap.from_names(["road", "car"]).colors
        ((128, 0, 0), (0, 128, 0))
        """
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise InvalidArgument("ClassMap", "names", f"must be a list of class names, got {names!r}")
        return cls(tuple(names))

    @classmethod
    def of(cls, given: "ClassMap | Mapping[str, Any] | Sequence[str]", source: str = "class map") -> "ClassMap":
        """A class map from itself, from what :meth:`as_dict` gives, or from class names.

        Raises:
            UserError: it describes no class map.
        """
        if isinstance(given, ClassMap):
            return given
        return cls.from_dict(given, source) if isinstance(given, Mapping) else cls.from_names(given)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = "class map") -> "ClassMap":
        """The class map that :meth:`as_dict` describes.

        Args:
            content: as read from JSON or from a checkpoint.
            source: what error messages name.

        Raises:
            UserError: it describes no class map.
        """
        try:
            _require_keys(content, ["names", "colors", "ids", "ignore", "subsets"], source)
            return cls(
                names=_names(content["names"]),
                colors=tuple(_color(color) for color in content["colors"]),
                ids=tuple(_integers(ids) for ids in content["ids"]),
                ignore=_integers(content["ignore"]),
                subsets={str(name): _names(subset) for name, subset in content["subsets"].items()},
                source=source,
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{source}: not a class map ({' '.join(str(error).split())})") from error

    def as_dict(self) -> dict[str, Any]:
        """Everything that the map says, in plain lists: for JSON, checkpoints and comparisons.

        >>> ClassMap.from_dict(ClassMap.from_names(["road", "car"]).as_dict()) == ClassMap.from_names(["road", "car"])
        True
        """
        return {
            "names": list(self.names),
            "colors": [list(color) for color in self.colors],
            "ids": [list(ids) for ids in self.ids],
            "ignore": list(self.ignore),
            "subsets": {name: list(subset) for name, subset in self.subsets.items()},
        }

    def __len__(self) -> int:
        return len(self.names)

    def difference(self, other: "ClassMap") -> str:
        """The first way in which labels of another map mean something else, colours aside; empty where none does.

        >>> ClassMap.from_names(["road", "car"]).difference(ClassMap.from_names(["road", "bus"]))
        "class 1 is 'car' there, 'bus' here"
        """
        if len(self) != len(other):
            return f"{len(self)} classes there, {len(other)} here"
        for index, (there, here) in enumerate(zip(self.names, other.names, strict=True)):
            if there != here:
                return f"class {index} is {there!r} there, {here!r} here"
        for name, ours, theirs in zip(self.names, self.ids, other.ids, strict=True):
            if set(ours) != set(theirs):
                return f"class {name!r} has the file ids {list(ours)} there, {list(theirs)} here"
        if set(self.ignore) != set(other.ignore):
            return f"the file ids {sorted(self.ignore)} are ignored there, {sorted(other.ignore)} here"
        return ""

    def lookup(self) -> npt.NDArray[np.int16]:
        """``(256,)`` table from file value to training id; 255 where ignored, -1 where it is unknown."""
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
        if not all(map(is_line, (*self.names, *self.subsets))):
            raise UserError(f"{self.source}: a name holds a line break or control character; leave it out")
        if not len(self.names) == len(self.colors) == len(self.ids):
            raise UserError(f"{self.source}: names, colors and ids differ in number; give one of each a class")
        values = [value for group in (*self.ids, self.ignore) for value in group]
        if not all(0 <= value <= 255 for value in values):
            raise UserError(f"{self.source}: file ids must lie in 0..255")
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise UserError(f"{self.source}: file ids {repeated} are given twice; each belongs to one class")
        for subset, names in self.subsets.items():
            _require_known(names, self.names, f"{self.source}: subset {subset}")
            if not names or len(set(names)) != len(names):
                raise UserError(f"{self.source}: subset {subset} is empty or repeats a class; name each class once")


def default_colors(given: Sequence[tuple[int, int, int] | None]) -> tuple[tuple[int, int, int], ...]:
    """One RGB triple for each class: the given one, else the next unused colour of PASCAL VOC, without its black."""
    free = (color for color in map(_voc_color, range(1, 256)) if color not in given)
    return tuple(next(free) if color is None else color for color in given)


def _voc_color(number: int) -> tuple[int, int, int]:
    """Bits 0, 3, 6 of the number are the highest of red, bits 1, 4, 7 of green, bits 2, 5 of blue."""
    red, green, blue = (
        sum((number >> (3 * place + channel) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue


def load_class_map(classes: str, owner: str = "load_class_map") -> ClassMap:
    """A built-in class map by its name, or one from a YAML file.

    The YAML holds ``classes``, a list of names or of ``{name, color: [r, g, b], ids: [file values]}``, where color and
    ids (the position) have defaults, and ``ignore``, the list of ignored file values (``[255]``). Instead of
    ``classes`` it may give ``from``, a built-in map, and ``without``, the classes of it to leave out: their file values
    are ignored, too. ``subsets`` gives further means by name, each a list of classes or ``{without: [classes]}``;
    a derived map inherits them.

    Args:
        classes: the name or the path.
        owner: of the argument ``classes`` that an error names.

    Raises:
        UserError: no such map, or a YAML that does not describe one.
    """
    if not classes.endswith((".yaml", ".yml")):
        try:
            return _built_in(classes)
        except LookupError as error:
            raise InvalidArgument(owner, "classes", f"must be a built-in class map or a YAML file: {error}") from error
    path = Path(classes)
    if not path.is_file():
        raise InvalidArgument(owner, "classes", f"must be a built-in class map or a YAML file: no file {path}")
    return _parse(read_bounded(path), str(path))


def _built_in(name: str) -> ClassMap:
    folder = resources.files("ripu_lightning") / "class_maps"
    known = [entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    if name not in known:
        raise LookupError(f"no class map {name!r}; {suggest(name, known)}")
    return _parse((folder / f"{name}.yaml").read_bytes(), name)


def _parse(content_bytes: bytes, source: str) -> ClassMap:
    try:
        content: Mapping[str, Any] = parse_yaml(content_bytes)
        classes = _derived(content, source) if "from" in content else _listed(content, source)
        kind = ["from", "without"] if "from" in content else ["classes"]
        _require_keys(content, ["ignore", "subsets", *kind], source)
        given = {str(name): _subset(value, classes, name) for name, value in content.get("subsets", {}).items()}
        return replace(classes, subsets={**classes.subsets, **given})
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{source}: not a class map ({reason}); expected 'classes: [{{name, color: [r, g, b], ids: [..]}}]'"
        ) from error


def _listed(content: Mapping[str, Any], source: str) -> ClassMap:
    listed = content["classes"]
    if not isinstance(listed, list):
        raise ValueError(f"{listed!r} is not a list of classes")
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in listed]
    for entry in entries:
        _require_keys(entry, ["name", "color", "ids"], source)
    return ClassMap(
        names=tuple(str(entry["name"]) for entry in entries),
        colors=default_colors([_color(entry["color"]) if "color" in entry else None for entry in entries]),
        ids=tuple(_integers(entry.get("ids", [i])) for i, entry in enumerate(entries)),
        ignore=_integers(content.get("ignore", [255])),
        source=source,
    )


def _derived(content: Mapping[str, Any], source: str) -> ClassMap:
    try:
        base = _built_in(str(content["from"]))
    except LookupError as error:
        raise UserError(f"{source}: from: {error}") from error
    removed = _names(content.get("without", []))
    _require_known(removed, base.names, f"{source}: without")
    kept = [i for i, name in enumerate(base.names) if name not in removed]
    dropped = [value for i, values in enumerate(base.ids) if i not in kept for value in values]
    names = tuple(base.names[i] for i in kept)
    subsets = {key: tuple(name for name in subset if name in names) for key, subset in base.subsets.items()}
    return ClassMap(
        names=names,
        colors=tuple(base.colors[i] for i in kept),
        ids=tuple(base.ids[i] for i in kept),
        ignore=tuple(sorted({*base.ignore, *dropped, *_integers(content.get("ignore", []))})),
        # A subset of no class or of every class is no further mean.
        subsets={key: subset for key, subset in subsets.items() if subset and set(subset) != set(names)},
        source=source,
    )


def _require_keys(content: Mapping[str, Any], known: Sequence[str], source: str) -> None:
    for key in content.keys() - known:
        raise UserError(f"{source}: no key {key!r} in a class map; {suggest(str(key), known)}")


def _subset(value: Any, classes: ClassMap, name: object) -> tuple[str, ...]:
    if not isinstance(value, Mapping):
        return _names(value)
    removed = _names(value["without"])
    _require_known(removed, classes.names, f"{classes.source}: subset {name}")
    return tuple(each for each in classes.names if each not in removed)


def _require_known(names: Iterable[str], known: Sequence[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"{where}: no class {name!r}; {suggest(name, known)}")


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list of class names")
    return tuple(map(str, value))


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
