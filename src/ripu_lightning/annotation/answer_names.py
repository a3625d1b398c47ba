"""Which image a file of answers is for: exact names first, then what other programs and systems make of them."""

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from ripu_lightning.data.layout import IMAGE_SUFFIXES

STATEMENTS = "painted.txt"
"""Name of the file that says of which images an empty-looking mask is right."""
CVAT = "SegmentationClass"
"""Folder of the masks in CVAT's "Segmentation mask 1.1"."""
_SYSTEM = {"__macosx", "desktop.ini", "thumbs.db"}
_NO_ANSWERS = {"asked", "pictures", "ImageSets", "JPEGImages", "SegmentationObject"}
_TEXTS = {"README.txt", "queries.parquet", "labelmap.txt"}


class AnswerNames:
    """Finds the image that a file name means.

    Args:
        ids: of all images of the data set: a name that could mean two of them means none.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = dict.fromkeys(ids)
        self._tails: dict[str, list[str]] = {}
        for image_id in self._ids:
            parts = _normal(image_id).split("/")
            for position in range(len(parts)):
                self._tails.setdefault("/".join(parts[position:]), []).append(image_id)

    def find(self, name: str) -> str | None:
        """The id of the image that ``name``, a path with the suffix ``.png``, is for; None where that is not clear.

        ``answers/`` or any other folders may be in front, folders of the id may be missing, the suffix may be doubled
        (``ID.jpg.png``) or in any case, and the Unicode form may differ.
        """
        path = name.replace("\\", "/")
        if not path.lower().endswith(".png") or not is_inside(path):
            return None
        stems, other = [path[:-4]], PurePosixPath(path[:-4]).suffix
        if other.lower() in IMAGE_SUFFIXES:
            stems.append(path[: -4 - len(other)])
        for stem in stems:
            for exact in (stem, stem.rpartition("answers/")[2]):
                if exact in self._ids:
                    return exact
        if is_aside(path):
            return None
        return next((found for stem in stems if (found := self._by_tail(_normal(stem)))), None)

    def _by_tail(self, stem: str) -> str | None:
        parts = stem.split("/")
        for position in range(len(parts)):
            tail = "/".join(parts[position:])
            found = self._tails.get(tail, [])
            equal = [image_id for image_id in found if _normal(image_id) == tail] or found
            if equal:
                return equal[0] if len(equal) == 1 else None
        return None


def is_inside(path: str) -> bool:
    """Whether a path with ``/`` is relative and stays in its folder."""
    return all(part not in ("", ".", "..") for part in path.split("/"))


def is_aside(name: str) -> bool:
    """Whether a file is none of answers: of the operating system, of the round, or of another program's export."""
    *folders, last = name.replace("\\", "/").split("/")
    hidden = any(part.startswith(".") or part.lower() in _SYSTEM for part in (*folders, last) if part != "..")
    return hidden or last in _TEXTS or not _NO_ANSWERS.isdisjoint(folders)


def _normal(name: str) -> str:
    # macOS stores an accent as a character of its own, other systems do not.
    return unicodedata.normalize("NFC", name)
