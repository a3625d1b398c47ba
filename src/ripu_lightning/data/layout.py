"""The layout of a data set's files: one pattern for its images and one for its labels, below its root."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ripu_lightning.errors import InvalidArgument, UserError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
OTHER_SUFFIXES = (".avif", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".pbm", ".pgm", ".pnm", ".ppm")
"""Of further images, which ``.*`` does not include."""
FOREIGN_FOLDERS = {"__MACOSX", "@eaDir"}
"""Folders that macOS and Synology add, with copies or thumbnails of the files."""
IMAGES = "images/{split}/{id}.*"
LABELS = "labels/{split}/{id}.png"
OWNER = "FolderDataset"


class Files(dict[str, Path]):
    """Files of one pattern by id, sorted.

    Attributes:
        others: by id, images that would fit the pattern but for their suffix.
    """

    def __init__(self, found: dict[str, Path], others: dict[str, Path]) -> None:
        super().__init__(sorted(found.items()))
        self.others = others


@dataclass(frozen=True)
class Layout:
    """Where the files of one split are.

    A pattern is a path below the root. ``{split}`` is the name of the split and ``{id}`` the id of the image, which may
    contain any number of subfolders. A folder ``*`` before it is any one folder, whose name becomes the beginning of
    the id. ``.*`` at the end is any suffix of :data:`IMAGE_SUFFIXES`; a suffix may be in upper case. Ids
    are in Unicode's composed form (NFC), whatever the file system keeps.

    Args:
        root: the data set's folder.
        split: for example ``train``; None where the patterns name no split.
        images: for example ``leftImg8bit/{split}/{id}_leftImg8bit.png``.
        labels: for example ``gtFine/{split}/{id}_gtFine_labelIds.png``; None where there are none.

    Raises:
        InvalidArgument: a pattern that is not valid, or a split that does not fit it.
    """

    root: str
    split: str | None
    images: str = IMAGES
    labels: str | None = LABELS

    def __post_init__(self) -> None:
        for key in ("images", "labels"):
            if getattr(self, key) is not None:
                _check_pattern(key, getattr(self, key))
        if (self.split is None) == ("{split}" in self.images):
            problem = f"is {self.split!r}, which does not fit images={self.images!r}; "
            problem += "give a split where the pattern has {split}, and None where it has not"
            raise InvalidArgument(OWNER, "split", problem)

    @property
    def folder_of_images(self) -> Path:
        """The deepest folder that holds every image; ids begin below it."""
        parts = self._fill(self.images).split("/")
        depth = next(position for position, part in enumerate(parts) if "{id}" in part or part == "*")
        return Path(self.root, *parts[:depth])

    def list_images(self) -> Files:
        """Images by id; also those without labels.

        Raises:
            UserError: no folder, no files, a link to a folder, or two files of one name.
        """
        return self._list("images", self.images)

    def list_labels(self) -> Files:
        """Labels by id; empty where the layout has none."""
        return Files({}, {}) if self.labels is None else self._list("labels", self.labels)

    def left_out(self, images: Files, labels: Files) -> list[str]:
        """One line for the images, and one for the labels, that are left out because of their suffix."""
        lines = []
        known = {*images.values(), *labels.values()} if images.others or labels.others else set()
        for pattern, files in ((self.images, images), (self.labels, labels)):
            others = sorted(path for path in files.others.values() if path not in known)
            known.update(others)
            if others:
                lines.append(
                    f"{self.root}: {_count(others)} left out, because {pattern} has another suffix; "
                    f"the first is {others[0]}: convert them, or change the pattern"
                )
        return lines

    def orphans(self, images: Files, labels: Files) -> list[str]:
        """One line for each image without label and each label without image, of the files listed."""
        if self.labels is None:
            return []
        images_alone = self._unpaired("image without label", images, labels, self.labels)
        return [*images_alone, *self._unpaired("label without image", labels, images, self.images)]

    def _list(self, key: str, pattern: str) -> Files:
        parts = self._fill(pattern).split("/")
        depth = next(position for position, part in enumerate(parts) if "{id}" in part)
        found: dict[str, Path] = {}
        others: dict[str, Path] = {}
        where, name = Path(self.root, *parts[:depth]), "/".join(parts[depth:])
        folders = self._folders(parts[:depth])
        hint = "" if key == "images" else " (labels=None if there are none)"
        if not folders:
            raise UserError(f"no folder {where}: wrong root or split? Expected {pattern} below {self.root}{hint}")
        expression, suffixes = _expression(name)
        for folder, prefix in folders:
            for image_id, path in _walk(folder, expression):
                if path.suffix.lower() not in suffixes:
                    others[prefix + image_id] = path
                elif prefix + image_id in found:
                    raise UserError(
                        f"{path}: {found[prefix + image_id].name} has the same name but for the suffix or the Unicode "
                        "form; keep one of them"
                    )
                else:
                    found[prefix + image_id] = path
        if not found:
            hint += f" Found: {_count(list(others.values()))}." if others else ""
            raise UserError(f"no {key} like {name} in {where}: wrong root or split?{hint}")
        return Files(found, others)

    def _folders(self, parts: list[str]) -> list[tuple[Path, str]]:
        """Folders that match ``parts``, each with the names that match ``*``."""
        found = [(Path(self.root), "")] if os.path.isdir(self.root) else []
        for part in parts:
            found = [
                (child, f"{prefix}{_composed(child.name)}/" if part == "*" else prefix)
                for folder, prefix in found
                for child in _children(folder, part)
            ]
        return found

    def _unpaired(self, fault: str, files: Files, partners: Files, pattern: str) -> list[str]:
        return [
            f"{fault}: {files[name]}; there is no {self._expected(pattern, name)}{_alike(name, partners)}: "
            "add it or remove the other"
            for name in sorted(files.keys() - partners.keys())
        ]

    def _expected(self, pattern: str, image_id: str) -> Path:
        *stars, rest = image_id.split("/", pattern.split("/").count("*"))
        parts = [stars.pop(0) if part == "*" and stars else part for part in self._fill(pattern).split("/")]
        return Path(self.root, *"/".join(parts).replace("{id}", rest).split("/"))

    def _fill(self, pattern: str) -> str:
        return pattern.replace("{split}", self.split or "")


def _check_pattern(key: str, pattern: str) -> None:
    parts = pattern.split("/")
    before, _, after = pattern.partition("{id}")
    stars = before.split("/").count("*") + pattern.endswith(".*")
    if (
        pattern.count("{id}") != 1
        or re.search(r"[{}]", pattern.replace("{id}", "").replace("{split}", ""))
        or "{split}" in after
        or pattern.count("*") != stars
        or {"", ".", ".."} & set(parts)
        or "." not in parts[-1]
    ):
        problem = f"is {pattern!r}; expected a path below the root of folders, {{split}}, * for any one folder, then "
        problem += "{id} once and a suffix, such as leftImg8bit/{split}/{id}_leftImg8bit.png"
        raise InvalidArgument(OWNER, key, problem)


def _expression(name: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """What fits the pattern with any image's suffix, and the suffixes that it asks for."""
    body, _, suffix = name.rpartition(".")
    suffixes = IMAGE_SUFFIXES if suffix == "*" else (f".{suffix.lower()}",)
    either = "|".join(re.escape(known) for known in {*suffixes, *IMAGE_SUFFIXES, *OTHER_SUFFIXES})
    pattern = re.escape(_composed(body)).replace(re.escape("{id}"), "(.+)") + f"(?i:{either})"
    return re.compile(pattern, re.DOTALL), suffixes


def _walk(folder: Path, expression: re.Pattern[str]) -> Iterator[tuple[str, Path]]:
    # os.walk and not rglob: it needs no further call to the file system to know a folder from a file.
    for place, folders, files in os.walk(folder, onerror=_refuse_folder):
        # Names that begin with a dot do not belong to the data set: macOS adds ._NAME to each file that it copies.
        folders[:] = sorted(name for name in folders if _is_data(name))
        for name in folders:
            if os.path.islink(os.path.join(place, name)):
                link = Path(place, name)
                raise UserError(f"{link}: a link to a folder is not followed; move the folder here or link its files")
        below = Path(place).relative_to(folder).as_posix()
        for name in sorted(files):
            match = expression.fullmatch(_composed(name if below == "." else f"{below}/{name}"))
            if match and _is_data(name):
                yield match[1], Path(place, name)


def _children(folder: Path, part: str) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        _refuse_folder(error)
    fits = [name for name in names if (_is_data(name) if part == "*" else _composed(name) == _composed(part))]
    # Some file systems find a name in upper case, too.
    return [folder / name for name in fits or [part] if (folder / name).is_dir()]


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name not in FOREIGN_FOLDERS


def _composed(name: str) -> str:
    # macOS decomposes the names that it copies: an e and an accent instead of one letter.
    return unicodedata.normalize("NFC", name)


def _alike(name: str, partners: Files) -> str:
    """A file that may be the missing one: with another suffix, or with the suffix of its partner before its own."""
    suffixes = [each for known in (*IMAGE_SUFFIXES, *OTHER_SUFFIXES) for each in (known, known.upper())]
    stem, suffix = os.path.splitext(name)
    names = [stem] if suffix in suffixes else [name + suffix for suffix in suffixes]
    found = partners.others.get(name) or next((partners[each] for each in names if each in partners), None)
    return f", but {found}; rename one of the two or change the pattern, or" if found else ""


def _count(paths: list[Path]) -> str:
    suffixes = Counter(path.suffix for path in paths)
    listed = ", ".join(f"{suffix} ({count})" for suffix, count in suffixes.most_common())
    return f"{len(paths)} file{'s' if len(paths) > 1 else ''} with the suffix {listed}"


def _refuse_folder(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions") from error
