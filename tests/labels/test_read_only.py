"""An unwritable folder: one line of error, before and after there is a store, and the store is still read."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_samples import CLASSES, IMAGES, assert_holds, commit, draw_round, writer

from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.training.checkpoint_io import AtomicCheckpointIO

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may look into; pytest's own are the owner's alone."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Take away the right to write ``folder`` and what is in it, also from root."""
    mine, modes = os.geteuid(), {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
    for path, mode in modes.items():
        path.chmod(mode & 0o555 | 0o444)
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if mine == 0:
            os.seteuid(mine)
        for path, mode in modes.items():
            path.chmod(mode)


def test_no_store_is_begun(folder: Path) -> None:
    with unwritable(folder), pytest.raises(UserError, match=r"cannot write .*Permission denied.*check the folder"):
        LabelStore.create_or_open(folder / "labels", classes=CLASSES, images=IMAGES)
    assert not list(folder.iterdir())


def test_a_store_is_read_but_not_written(folder: Path) -> None:
    with writer(folder) as store:
        made = [commit(store, 0)]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with unwritable(folder):
        assert_holds(LabelStore.open(folder, classes=CLASSES, images=IMAGES), made)
        with pytest.raises(UserError, match="Permission denied"):
            LabelStore.create_or_open(folder, classes=CLASSES, images=IMAGES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_becomes_unwritable_during_a_run(folder: Path) -> None:
    with writer(folder) as store:
        made = [commit(store, 0)]
        with unwritable(folder):
            with pytest.raises(UserError, match=r"Permission denied.*the labels of rounds 1\.\.1 are safe"):
                store.commit(iter(draw_round(1)), strategy="s", annotator="truth", exclusion=2)
            with pytest.raises(UserError, match=r"last\.ckpt .*Permission denied"):
                AtomicCheckpointIO().save_checkpoint({"epoch": 1}, folder / "last.ckpt")
            assert_holds(store, made)
        made.append(commit(store, 2))
    assert_holds(LabelStore.open(folder, classes=CLASSES, images=IMAGES), made)
