"""Several label stores of the same images and classes as one: their rounds in force, one store after the other."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, sha256_of, sync_folder
from ripu_lightning.labels.entry import Round
from ripu_lightning.labels.manifest import Manifest
from ripu_lightning.labels.manifest_file import write_manifest
from ripu_lightning.labels.store import LabelStore

_NOTE = "the stores to merge are untouched"


def merge_stores(stores: Sequence[LabelStore], into: Path) -> tuple[Manifest, int]:
    """Copy the rounds in force of all stores, byte for byte, into a new one, wholly or not at all.

    A round that an earlier store brought already is not repeated; one that its store marks as damaged is left out.

    Args:
        stores: open ones, at least one.
        into: the new store's folder: missing, or empty.

    Returns:
        The new store's manifest, and the number of pixels that two of the stores answer differently (void answers
        included); the later round counts.

    Raises:
        UserError: stores of other classes or images, a folder that holds something, or the disk refused.
    """
    first = stores[0].manifest
    for store in stores[1:]:
        store.manifest.check_classes(store.folder, first.classes)
        if (store.manifest.count, store.manifest.fingerprint) != (first.count, first.fingerprint):
            raise UserError(f"label store {store.folder} was made with other images than {stores[0].folder}")
    into = Path(os.path.abspath(into))
    require_empty(into)
    conflicts = _count_conflicts(stores)
    temporary = into.with_name(f".{into.name}.tmp")
    with explained(into, _NOTE):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        merged = replace(first, committed=(), head=None)
        for source, entry in _rounds(stores):
            merged = _append(merged, source, entry, temporary)
        write_manifest(temporary, merged, _NOTE)
        with explained(into, _NOTE):
            os.rename(temporary, into)
            sync_folder(into.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return merged, conflicts


def require_empty(folder: Path) -> None:
    """Refuse to write among other files: they could be somebody's answers.

    Raises:
        UserError: ``folder`` is a file, or a folder that holds something.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty: choose a new folder; nothing is ever overwritten")


def _count_conflicts(stores: Sequence[LabelStore]) -> int:
    pixels = 0
    for image_id in dict.fromkeys(image_id for store in stores for image_id in store.touched):
        parts = [(store.asked(image_id) > 0, store.mask(image_id)) for store in stores if image_id in store.touched]
        if len({mask.shape for _, mask in parts}) > 1:
            raise UserError(f"image {image_id!r} has another size in another store: these are not of the same images")
        known, answer = (array.copy() for array in parts[0])
        differs = np.zeros_like(known)
        for asked, mask in parts[1:]:
            differs |= known & asked & (answer != mask)
            answer[asked] = mask[asked]
            known |= asked
        pixels += int(differs.sum())
    return pixels


def _rounds(stores: Sequence[LabelStore]) -> Iterator[tuple[Path, Round]]:
    """The rounds to merge, each once, with the files they are in."""
    seen: set[str] = set()
    for store in stores:
        for entry in store.rounds:
            if entry.number not in store.damaged and entry.sha256 not in seen:
                seen.add(entry.sha256)
                yield store.folder / entry.file, entry


def _append(merged: Manifest, source: Path, entry: Round, folder: Path) -> Manifest:
    number, path = len(merged.rounds) + 1, folder / merged.next_file()
    with explained(path, _NOTE):
        shutil.copyfile(source, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    if sha256_of(path) != entry.sha256:
        raise UserError(f"{source} changed while it was copied: try again; {_NOTE}")
    return merged.with_round(replace(entry, number=number, file=path.name, parent=merged.head))
