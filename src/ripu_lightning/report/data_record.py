"""The data a run began with: class maps and one digest a file in ``data.json``, against which later starts are checked.

It needs neither torch nor Lightning.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from ripu_lightning.class_map import ClassMap
from ripu_lightning.errors import UserError
from ripu_lightning.files import write_bytes
from ripu_lightning.report.json_records import LABELS_SAFE
from ripu_lightning.untrusted import is_line, parse_json, read_bounded

NAME = "data.json"
LARGEST = 2**28
"""Bytes; enough for a million images."""
POOL = "target"
EVERYTHING = "an image or a label"
"""Stands for the files of data that have none."""


Digests = Callable[[Any, Literal["images", "labels"]], dict[str, str] | None]
"""What computes digests, see :meth:`~ripu_lightning.data.cache.DataCache.digests`."""


@dataclass(frozen=True)
class SetRecord:
    """One data set.

    Attributes:
        classes: its class map.
        images: digest of each image file by its path below the root; of data without files the digest of everything,
            under :data:`EVERYTHING`; empty where unknown.
        labels: likewise of the label files; empty where they may not be read, or are unknown.
    """

    classes: ClassMap
    images: Mapping[str, str]
    labels: Mapping[str, str]

    def digest(self, kind: str) -> str | None:
        """One digest of the class map and all ``images`` or ``labels``; None where unknown."""
        files = sorted(getattr(self, kind).items())
        classes = {key: value for key, value in self.classes.as_dict().items() if key != "colors"}
        return sha256(json.dumps([classes, files]).encode()).hexdigest() if files else None


Record = Mapping[str, SetRecord]
"""By the data set's name: source, target, target_eval."""


def record_of(datasets: Mapping[str, Any], digests: Digests, without_labels: bool) -> Record:
    """The record of some data sets, each file read once; ``without_labels``: the target's labels are not opened."""
    found = {}
    for name, dataset in datasets.items():
        hidden = (without_labels and name == POOL) or not dataset.has_labels
        images, labels = digests(dataset, "images"), None if hidden else digests(dataset, "labels")
        content = _content(dataset, hidden) if images is None else None
        found[name] = SetRecord(dataset.classes, images or ({EVERYTHING: content} if content else {}), labels or {})
    return found


def _content(dataset: Any, hidden: bool) -> str | None:
    """A digest of everything; None where it is unknown, or would need labels that are hidden."""
    from ripu_lightning.data.dataset import SegmentationDataset  # only here: who reads a record needs none of it

    needs_labels = type(dataset).content is not SegmentationDataset.content
    found: str | None = None if hidden and needs_labels else dataset.content()
    return found


def write_data_record(record: Record, folder: Path) -> None:
    """Write ``data.json`` into a run's folder in one step. Raises UserError where it cannot be written."""
    content = {
        name: {"classes": part.classes.as_dict(), "images": dict(part.images), "labels": dict(part.labels)}
        for name, part in record.items()
    }
    write_bytes(folder / NAME, f"{json.dumps(content, indent=1)}\n".encode(), LABELS_SAFE)


def read_data_record(path: Path) -> Record:
    """The record in a file. Raises UserError where it cannot be read, or is none."""
    try:
        content = parse_json(read_bounded(path, LARGEST))
        return {str(name): _parse(part) for name, part in content.items()}
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: not the record of a run's data; restore it from a backup, or choose another output"
        ) from error


def refuse_other_data(folder: Path, record: Record, roots: Mapping[str, str]) -> None:
    """Refuse to resume a run on other data than it began with; nothing happens where it has no record.

    New files of the pool are not refused here: the label store decides which images may be queried.

    Args:
        folder: of the run.
        record: of the data now.
        roots: folder of each data set, for errors.

    Raises:
        UserError: naming the class or the first file that differs.
    """
    if not (folder / NAME).is_file():
        return
    began, fix = read_data_record(folder / NAME), "restore it, or choose another output"
    for name in record.keys() & began.keys():
        before, now = began[name], record[name]
        difference = before.classes.difference(now.classes)
        if difference:
            raise UserError(
                f"data.{name}.classes: the run in {folder} began with another class map ({difference}); {fix}"
            )
        for old, new in ((before.images, now.images), (before.labels, now.labels)):
            if not old or not new:
                continue
            changed = [file for file in old if new.get(file) != old[file]]
            changed += [file for file in new if file not in old] if name != POOL else []
            if changed:
                file, more = changed[0], f" ({len(changed)} such files)" if len(changed) > 1 else ""
                what = "is missing" if file not in new else "is new" if file not in old else "was exchanged"
                place = str(Path(roots[name], file)) if roots.get(name) else file
                place = place if is_line(place) else ascii(place)
                raise UserError(f"data.{name}: {place} {what} since the run in {folder} began{more}; {fix}")


def _parse(part: dict[str, Any]) -> SetRecord:
    files = part["images"], part["labels"]
    if not all(isinstance(text, str) for each in files for text in (*each.keys(), *each.values())):
        raise ValueError("digests that are no texts")
    return SetRecord(ClassMap.from_dict(part["classes"]), *files)
