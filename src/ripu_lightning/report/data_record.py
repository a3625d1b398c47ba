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
from ripu_lightning.report.json_records import LABELS_SAFE, checked
from ripu_lightning.untrusted import parse_json, read_bounded

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
        if images is None and not (without_labels and name == POOL):
            content = dataset.content()
            images = {EVERYTHING: content} if content else None
        found[name] = SetRecord(dataset.classes, images or {}, labels or {})
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
        content = checked(dict[str, dict[str, Any]], parse_json(read_bounded(path, LARGEST)))
        return {name: _parse(part) for name, part in content.items()}
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
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
                what = f"{Path(roots.get(name, ''), file)} {what}" if roots.get(name) else f"{file} {what}"
                raise UserError(f"data.{name}: {what} since the run in {folder} began{more}; {fix}")


def _parse(part: dict[str, Any]) -> SetRecord:
    if part.keys() != {"classes", "images", "labels"}:
        raise ValueError("other keys than those of a data set")
    images, labels = (checked(dict[str, str], part[kind]) for kind in ("images", "labels"))
    return SetRecord(ClassMap.from_dict(part["classes"]), images, labels)
