"""The layout of a data set's files: one pattern for its images and one for its labels, below its root."""

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ripu_lightning.errors import InvalidArgument, UserError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
IMAGES = "images/{split}/{id}.*"
LABELS = "labels/{split}/{id}.png"
OWNER = "FolderDataset"


@dataclass(frozen=True)
class Layout:
    """Where the files of one split are.

    A pattern is a path below the root. ``{split}`` is the name of the split and ``{id}`` the id of the image, which may
    contain any number of subfolders. A folder ``*`` before it is any one folder, whose name becomes the beginning of
    the id. ``.*`` at the end is any suffix of :data:`IMAGE_SUFFIXES`.

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

    def list_images(self) -> dict[str, Path]:
        """Images by id, sorted; also those without labels.

        Raises:
            UserError: no folder, no files, a link to a folder, or two files of one name.
        """
        return self._list("images", self.images)

    def list_labels(self) -> dict[str, Path]:
        """Labels by id, sorted; empty where the layout has none."""
        return {} if self.labels is None else self._list("labels", self.labels)

    def orphans(self, images: dict[str, Path], labels: dict[str, Path]) -> list[str]:
        """One line for each image without label and each label without image, of the files listed."""
        if self.labels is None:
            return []
        images_alone = self._unpaired("image without label", images, labels, self.labels)
        return [*images_alone, *self._unpaired("label without image", labels, images, self.images)]

    def _list(self, key: str, pattern: str) -> dict[str, Path]:
        parts = self._fill(pattern).split("/")
        depth = next(position for position, part in enumerate(parts) if "{id}" in part)
        found: dict[str, Path] = {}
        where, name = Path(self.root, *parts[:depth]), "/".join(parts[depth:])
        folders = self._folders(parts[:depth])
        hint = "" if key == "images" else " (labels=None if there are none)"
        if not folders:
            raise UserError(f"no folder {where}: wrong root or split? Expected {pattern} below {self.root}{hint}")
        for folder, prefix in folders:
            for image_id, path in _walk(folder, _expression(name)):
                if prefix + image_id in found:
                    raise UserError(f"{path}: another file has the same name but for the suffix; keep one of them")
                found[prefix + image_id] = path
        if not found:
            raise UserError(f"no {key} like {name} in {where}: wrong root or split?{hint}")
        return dict(sorted(found.items()))

    def _folders(self, parts: list[str]) -> list[tuple[Path, str]]:
        """Folders that match ``parts``, each with the names that match ``*``."""
        escaped = [part if part == "*" else glob.escape(part) for part in parts]
        found = Path(self.root).glob("/".join(escaped)) if parts else [Path(self.root)]
        stars = [position - len(parts) for position, part in enumerate(parts) if part == "*"]
        return [(path, "".join(f"{path.parts[star]}/" for star in stars)) for path in sorted(found) if path.is_dir()]

    def _unpaired(self, fault: str, files: dict[str, Path], partners: dict[str, Path], pattern: str) -> list[str]:
        return [
            f"{fault}: {files[name]}; there is no {self._expected(pattern, name)}: add it or remove the other"
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


def _expression(name: str) -> re.Pattern[str]:
    body, _, suffix = name.rpartition(".")
    suffixes = IMAGE_SUFFIXES if suffix == "*" else (f".{suffix}",)
    either = "|".join(re.escape(known) for known in suffixes)
    return re.compile(re.escape(body).replace(re.escape("{id}"), "(.+)") + f"(?i:{either})", re.DOTALL)


def _walk(folder: Path, expression: re.Pattern[str]) -> Iterator[tuple[str, Path]]:
    # os.walk and not rglob: it needs no further call to the file system to know a folder from a file.
    for place, folders, files in os.walk(folder, onerror=_refuse_folder):
        # Names that begin with a dot do not belong to the data set: macOS adds ._NAME to each file that it copies.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if os.path.islink(os.path.join(place, name)):
                link = Path(place, name)
                raise UserError(f"{link}: a link to a folder is not followed; move the folder here or link its files")
        below = Path(place).relative_to(folder).as_posix()
        for name in sorted(files):
            match = expression.fullmatch(name if below == "." else f"{below}/{name}")
            if match and not name.startswith("."):
                yield match[1], Path(place, name)


def _refuse_folder(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions") from error
