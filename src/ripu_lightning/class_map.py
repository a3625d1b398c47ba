"""Class maps: the names, colours and file ids of classes."""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ripu_lightning.class_colors import Color, default_colors
from ripu_lightning.class_map_parsing import (
    as_color,
    as_colors,
    as_integers,
    as_mapping,
    as_names,
    as_text,
    require_keys,
    require_known,
)
from ripu_lightning.errors import InvalidArgument, UserError, suggest
from ripu_lightning.untrusted import is_line, parse_typed_yaml, read_bounded

MAX_CLASSES = 254  # the label store writes 254 for "not queried", and 255 is "ignored" everywhere
LARGEST_ID = 2**16 - 1


@dataclass(frozen=True)
class ClassMap:
    """The classes of one protocol; the position in ``names`` is the training id.

    Args:
        names: class names, unique.
        colors: one RGB triple (0..255) for each class; by default those of PASCAL VOC, without its black.
        ids: file values of each class, in 0..65535; by default its position.
        ignore: file values that are ignored.
        ignore_colors: colours that are ignored where labels are stored as colours.
        own_colors: whether somebody chose every colour; labels are not read by default colours.
        subsets: by name, some of the classes, over which evaluation reports a further mean.
        source: what error messages name.

    Raises:
        UserError: names, colors or ids that do not describe classes.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...] = ()
    ids: tuple[tuple[int, ...], ...] = ()
    ignore: tuple[int, ...] = (255,)
    ignore_colors: tuple[Color, ...] = ()
    own_colors: bool = True
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = field(default="class map", compare=False)

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple((i,) for i in range(len(self.names))))
        if not self.colors:
            object.__setattr__(self, "colors", default_colors([None] * len(self.names)))
            object.__setattr__(self, "own_colors", False)
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
            known = ["names", "colors", "ids", "ignore", "ignore_colors", "own_colors", "subsets"]
            require_keys(content, known, source)
            return cls(
                names=as_names(content["names"]),
                colors=as_colors(content["colors"]),
                ids=tuple(as_integers(ids) for ids in content["ids"]),
                ignore=as_integers(content["ignore"]),
                ignore_colors=as_colors(content["ignore_colors"]),
                own_colors=bool(content["own_colors"]),
                subsets={as_text(name): as_names(subset) for name, subset in content["subsets"].items()},
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
            "ignore_colors": [list(color) for color in self.ignore_colors],
            "own_colors": self.own_colors,
            "subsets": {name: list(subset) for name, subset in self.subsets.items()},
        }

    def __len__(self) -> int:
        return len(self.names)

    def difference(self, other: "ClassMap | Sequence[str]") -> str:
        """The first way in which labels of another map mean something else; empty where none does.

        Names alone say nothing about file ids. A class may get a colour that meant nothing before.

        >>> ClassMap.from_names(["road", "car"]).difference(["road", "bus"])
        "class 1 is 'car' there, 'bus' here"
        """
        names = other.names if isinstance(other, ClassMap) else tuple(other)
        if len(names) != len(self):
            return f"{len(self)} classes there, {len(names)} here"
        for index, (there, here) in enumerate(zip(self.names, names, strict=True)):
            if there != here:
                return f"class {index} is {there!r} there, {here!r} here"
        if not isinstance(other, ClassMap):
            return ""
        for name, ours, theirs in zip(names, self.ids, other.ids, strict=True):
            if set(ours) != set(theirs):
                return f"class {name!r} has the file ids {list(ours)} there, {list(theirs)} here"
        if set(self.ignore) != set(other.ignore):
            return f"the file ids {sorted(self.ignore)} are ignored there, {sorted(other.ignore)} here"
        ours_by_color, theirs_by_color = self._by_color(), other._by_color()
        for color in ours_by_color.keys() & theirs_by_color.keys():
            if ours_by_color[color] != theirs_by_color[color]:
                return f"the color {list(color)} is {ours_by_color[color]} there, {theirs_by_color[color]} here"
        return ""

    def _by_color(self) -> dict[Color, str]:
        """What each colour means where labels are stored as colours."""
        if not self.own_colors:
            return {}
        return {**dict.fromkeys(self.ignore_colors, "ignored"), **dict(zip(self.colors, self.names, strict=True))}

    def lookup(self, bits: int = 8) -> npt.NDArray[np.int16]:
        """``(2**bits,)`` table from file value to training id; 255 where ignored, -1 where it is unknown.

        Args:
            bits: of a file value, 8 or 16.
        """
        table = np.full(2**bits, -1, dtype=np.int16)
        for train_id, values in ((255, self.ignore), *enumerate(self.ids)):
            table[[value for value in values if value < len(table)]] = train_id
        return table

    def palette(self) -> npt.NDArray[np.uint8]:
        """``(256, 3)`` RGB palette; ignored pixels are black."""
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[: len(self)] = np.array(self.colors, dtype=np.uint8)
        return palette

    def doubts(self) -> list[str]:
        """One line for each thing that is probably a mistake, although it can be read."""
        lines = []
        for color in (color for color, count in Counter(self.colors).items() if count > 1):
            shared = [name for name, other in zip(self.names, self.colors, strict=True) if other == color]
            lines.append(f"{self.source}: {_listing(shared)} have one color, {list(color)}; give each its own")
        bare = {name: "".join(unicodedata.normalize("NFKC", name).split()).casefold() for name in self.names}
        for text in (text for text, count in Counter(bare.values()).items() if count > 1):
            alike = [name for name in self.names if bare[name] == text]
            lines.append(
                f"{self.source}: {_listing(alike)} differ only by blanks, case or Unicode form; is it one class?"
            )
        return lines

    def _validate(self) -> None:
        if not 2 <= len(self.names) <= MAX_CLASSES:
            raise UserError(f"{self.source}: {len(self.names)} classes; expected 2 to {MAX_CLASSES}")
        if len(set(self.names)) != len(self.names):
            raise UserError(f"{self.source}: class names repeat; give each class its own name")
        if not all(map(is_line, (*self.names, *self.subsets))):
            raise UserError(f"{self.source}: a name holds a line break or control character; leave it out")
        if not all(name.strip() for name in (*self.names, *self.subsets)):
            raise UserError(f"{self.source}: a name is empty; give each class and subset a name")
        if not len(self.names) == len(self.colors) == len(self.ids):
            raise UserError(f"{self.source}: names, colors and ids differ in number; give one of each a class")
        values = [value for group in (*self.ids, self.ignore) for value in group]
        if not all(0 <= value <= LARGEST_ID for value in values):
            raise UserError(f"{self.source}: file ids must lie in 0..{LARGEST_ID}")
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            hint = "; 255 is ignored unless ignore is given: ignore: []" if 255 in repeated else ""
            raise UserError(f"{self.source}: file ids {repeated} are given twice; each belongs to one class{hint}")
        for color in self.ignore_colors:
            if color in self.colors and self.own_colors:
                name = self.names[self.colors.index(color)]
                raise UserError(f"{self.source}: the color {list(color)} is that of {name} and ignored; choose one")
        for subset, names in self.subsets.items():
            require_known(names, self.names, f"{self.source}: subset {subset}")
            if not names or len(set(names)) != len(names):
                raise UserError(f"{self.source}: subset {subset} is empty or repeats a class; name each class once")


def load_class_map(classes: str, owner: str = "load_class_map") -> ClassMap:
    """A built-in class map by its name, or one from a YAML file.

    The YAML holds ``classes``, a list of names or of ``{name, color: [r, g, b], ids: [file values]}``, where color and
    ids (the position) have defaults, and ``ignore``, the list of ignored file values (``[255]``, unless 255 is an id of
    a class). ``ignore_colors`` lists the colours that are ignored in labels stored as colours. Instead of ``classes``
    it may give ``from``, a built-in map, and ``without``, the classes of it to leave out: their file values are
    ignored, too. ``subsets`` gives further means by name, each a list of classes or ``{without: [classes]}``; a derived
    map inherits them. What is probably a mistake is a warning, see :meth:`ClassMap.doubts`.

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
    found = _parse(read_bounded(path), str(path))
    for doubt in found.doubts():
        warnings.warn(doubt, stacklevel=2)
    return found


def _built_in(name: str) -> ClassMap:
    folder = resources.files("ripu_lightning") / "class_maps"
    known = [entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    if name not in known:
        raise LookupError(f"no class map {name!r}; {suggest(name, known)}")
    return _parse((folder / f"{name}.yaml").read_bytes(), name)


def _parse(content_bytes: bytes, source: str) -> ClassMap:
    try:
        content: Mapping[str, Any] = as_mapping(parse_typed_yaml(content_bytes), "the file")
        classes = _derived(content, source) if "from" in content else _listed(content, source)
        kind = ["from", "without"] if "from" in content else ["classes"]
        require_keys(content, ["ignore", "ignore_colors", "subsets", *kind], source)
        subsets = as_mapping(content.get("subsets", {}), "subsets")
        given = {as_text(name): _subset(value, classes, name) for name, value in subsets.items()}
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
    entries = [entry if isinstance(entry, Mapping) else {"name": entry} for entry in listed]
    for entry in entries:
        require_keys(entry, ["name", "color", "ids"], source)
    ids = tuple(as_integers(entry.get("ids", [i])) for i, entry in enumerate(entries))
    # A mask of 0 and 255: the id that somebody wrote counts more than the default.
    default = [] if any(255 in values for values in ids) else [255]
    return ClassMap(
        names=tuple(as_text(entry["name"]) for entry in entries),
        colors=default_colors([as_color(entry["color"]) if "color" in entry else None for entry in entries]),
        ids=ids,
        ignore=as_integers(content.get("ignore", default)),
        ignore_colors=as_colors(content.get("ignore_colors", [])),
        own_colors=all("color" in entry for entry in entries),
        source=source,
    )


def _derived(content: Mapping[str, Any], source: str) -> ClassMap:
    try:
        base = _built_in(as_text(content["from"]))
    except LookupError as error:
        raise UserError(f"{source}: from: {error}") from error
    removed = as_names(content.get("without", []))
    require_known(removed, base.names, f"{source}: without")
    kept = [i for i, name in enumerate(base.names) if name not in removed]
    dropped = [value for i, values in enumerate(base.ids) if i not in kept for value in values]
    dropped_colors = [color for i, color in enumerate(base.colors) if i not in kept]
    names = tuple(base.names[i] for i in kept)
    subsets = {key: tuple(name for name in subset if name in names) for key, subset in base.subsets.items()}
    return ClassMap(
        names=names,
        colors=tuple(base.colors[i] for i in kept),
        ids=tuple(base.ids[i] for i in kept),
        ignore=tuple(sorted({*base.ignore, *dropped, *as_integers(content.get("ignore", []))})),
        ignore_colors=(*base.ignore_colors, *dropped_colors, *as_colors(content.get("ignore_colors", []))),
        own_colors=base.own_colors,
        # A subset of no class or of every class is no further mean.
        subsets={key: subset for key, subset in subsets.items() if subset and set(subset) != set(names)},
        source=source,
    )


def _subset(value: Any, classes: ClassMap, name: object) -> tuple[str, ...]:
    if not isinstance(value, Mapping):
        return as_names(value)
    require_keys(value, ["without"], f"{classes.source}: subset {name}")
    removed = as_names(value["without"])
    require_known(removed, classes.names, f"{classes.source}: subset {name}")
    return tuple(each for each in classes.names if each not in removed)


def _listing(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
