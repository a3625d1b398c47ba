"""Work on complete label stores, damaged ones too: merge, verify, roll back, skip images, take new images in."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, sha256_of, sync_folder
from ripu_lightning.labels.committed_round import open_round
from ripu_lightning.labels.manifest import NAME, Classes, Images, Manifest, changing, read_manifest, write_manifest
from ripu_lightning.labels.round import Round
from ripu_lightning.labels.store import LabelStore

_NOTE = "the stores to merge are untouched"


def merge_stores(stores: Sequence[LabelStore], into: Path) -> tuple[Manifest, int]:
    """Copy the active rounds of all stores, byte for byte, into a new one, wholly or not at all.

    A round that an earlier store already holds is not repeated; one that its store marks as damaged is left out.

    Args:
        stores: open ones, at least one.
        into: the new store's folder: missing, or empty.

    Returns:
        The new store's manifest, and the number of pixels that two of the stores answer differently (void answers
        included); the later round counts.

    Raises:
        UserError: stores of other classes or images, answers that one store uses and another has rejected, a folder
            that is not empty, or the disk refused.
    """
    first = stores[0].manifest
    for store in stores[1:]:
        store.manifest.check_classes(store.folder, first.class_map)
        store.manifest.check_images(store.folder, first.images)
    _refuse_rejected(stores)
    into = Path(os.path.abspath(into))
    require_empty(into)
    conflicts = _count_conflicts(stores)
    temporary = into.with_name(f".{into.name}.tmp")
    with explained(into, _NOTE):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        skipped = dict.fromkeys(image_id for store in stores for image_id in store.manifest.skipped)
        merged = Manifest(first.class_map, first.images, skipped=tuple(skipped))
        seen: set[str] = set()
        for store in stores:
            for entry in store.rounds:
                if entry.number not in store.damaged and entry.sha256 not in seen:
                    seen.add(entry.sha256)
                    merged = _append(merged, store.folder / entry.file, entry, temporary)
        write_manifest(temporary, merged, _NOTE)
        with explained(into, _NOTE):
            if into.is_dir():
                into.rmdir()  # which only an empty folder allows
            os.rename(temporary, into)
            sync_folder(into.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return merged, conflicts


def require_empty(folder: Path) -> None:
    """Refuse to write among other files: they could be somebody's answers.

    Raises:
        UserError: ``folder`` is a file, or a folder that is not empty.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty: choose a new folder; nothing is ever overwritten")


def _refuse_rejected(stores: Sequence[LabelStore]) -> None:
    """Refuse to bring a round back that is active in one store while another knows that answers of it are wrong."""
    wrong = {sha256: store.folder for store in stores for sha256 in store.manifest.rejected}
    for store in stores:
        for entry in store.rounds:
            if entry.number not in store.damaged and entry.sha256 in wrong:
                raise UserError(
                    f"round {entry.number} ({entry.id}) of {store.folder}: answers of it were rejected in "
                    f"{wrong[entry.sha256]}; reject them there too, or leave {store.folder} out; {_NOTE}"
                )


def _count_conflicts(stores: Sequence[LabelStore]) -> int:
    pixels = 0
    for image_id in dict.fromkeys(image_id for store in stores for image_id in store.queried_images):
        having = [store for store in stores if image_id in store.queried_images]
        masks = [(store.query_round(image_id) > 0, store.mask(image_id)) for store in having]
        known, answer = (array.copy() for array in masks[0])
        differs = np.zeros_like(known)
        for queried, mask in masks[1:]:
            differs |= known & queried & (answer != mask)
            answer[queried] = mask[queried]
            known |= queried
        pixels += int(differs.sum())
    return pixels


def _append(merged: Manifest, source: Path, entry: Round, folder: Path) -> Manifest:
    path = folder / merged.next_file()
    with explained(path, _NOTE):
        shutil.copyfile(source, path)
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    if sha256_of(path) != entry.sha256:
        raise UserError(f"{source} changed while it was copied: try again; {_NOTE}")
    return merged.with_round(replace(entry, number=len(merged.rounds) + 1, file=path.name, parent=merged.head))


class FileState(NamedTuple):
    """A file's name, ``ok``, ``damaged``, ``missing``, ``pending`` or ``left over``, and a remark."""

    name: str
    state: str
    about: str

    @property
    def lost(self) -> bool:
        """Whether something committed cannot be read."""
        return self.state in {"damaged", "missing"}


def verify_store(folder: Path) -> list[FileState]:
    """The states of a store's files: the committed ones in the order of their commits, then all others.

    Raises:
        UserError: there is no store, or its manifest is damaged.
    """
    manifest = read_manifest(folder)
    states = [FileState(NAME, "ok", f"{len(manifest.rounds)} active rounds, {len(manifest.inactive)} inactive")]
    for entry in manifest.committed:
        about = f"round {entry.number} {entry.id}, {'active' if entry in manifest.rounds else 'inactive'}"
        state = "ok"
        try:
            open_round(folder, entry, manifest).tally()
        except UserError as error:
            state = "damaged" if os.path.lexists(folder / entry.file) else "missing"
            about += f": {error}"
        states.append(FileState(entry.file, state, about))
    for name in sorted(set(os.listdir(folder)) - {entry.file for entry in manifest.committed} - {NAME, "lock"}):
        pending = name.startswith("pending_") and name.endswith(".parquet")
        state, about = ("pending", "queries without answers") if pending else ("left over", "no part of the store")
        states.append(FileState(name, state, about))
    return states


def skip_images(folder: str | os.PathLike[str], images: Sequence[str]) -> Manifest:
    """Never query these images again; labels that they have stay. Returns the new manifest.

    Raises:
        UserError: no store, an unknown image, a writer holds the store, or the disk refused.
    """
    path = Path(folder)
    with changing(path) as manifest:
        for image_id in images:
            if image_id not in manifest.images:
                close = get_close_matches(image_id, manifest.images, 1)
                hint = f"did you mean {close[0]!r}?" if close else "give its id as in asked/ID.png"
                raise UserError(f"label store {path} has no image {image_id!r}; {hint}")
        skipped = replace(manifest, skipped=tuple(dict.fromkeys((*manifest.skipped, *images))))
        write_manifest(path, skipped, "nothing was changed")
    return skipped


def extend_images(folder: str | os.PathLike[str], classes: Classes, images: Images) -> list[str]:
    """Take new images into a store; its own must all be there, in the same sizes. Returns the ids of the new ones.

    Raises:
        UserError: no store, other classes, an image of it is missing or changed, a writer holds the store, or the disk
            refused.
    """
    path = Path(folder)
    with changing(path, classes) as manifest:
        manifest.check_images(path, images, grown=True)
        new = [image_id for image_id in images if image_id not in manifest.images]
        if new:
            every = {image_id: (int(size[0]), int(size[1])) for image_id, size in images.items()}
            write_manifest(path, replace(manifest, images=every), "nothing was changed")
    return new


def roll_back(folder: str | os.PathLike[str], to: int | str) -> None:
    """:meth:`LabelStore.roll_back` that works on a damaged store: that is when people need it.

    Raises:
        UserError: no store, no such round, a writer holds the store, or the disk refused.
    """
    path = Path(folder)
    with changing(path) as manifest:
        write_manifest(path, manifest.at(to), "nothing was changed")
