"""Files that appear whole or not at all, their hashes, and the lock that keeps a second writer out."""

import fcntl
import hashlib
import os
import socket
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ripu_lightning.errors import DISK_FULL, UserError


@contextmanager
def explained(path: Path, note: str) -> Iterator[None]:
    """Turn an ``OSError`` of the block, which writes ``path``, into a ``UserError`` that ends with ``note``."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise UserError(f"no space left while writing {path}: free some space and start again; {note}") from error
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path} ({reason}): check the folder and its permissions; {note}") from error


@contextmanager
def replacing(path: Path, note: str) -> Iterator[BinaryIO]:
    """A file to write in place of ``path``: it takes the name, safely on disk, only when the block ends well.

    Errors of the block itself pass through unchanged; either way no temporary file is left.

    Args:
        path: the file to write or replace; its folder exists.
        note: what to tell the user beside the reason for a failure.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with explained(path, note):
            # Not through a link of that name, which somebody may have put into a folder from elsewhere.
            temporary.unlink(missing_ok=True)
            file = os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666), "wb")
        try:
            yield file
            with explained(path, note):
                file.flush()
                os.fsync(file.fileno())
        finally:
            # A failed flush is repeated by close(); the first error is the one to tell.
            with suppress(OSError):
                file.close()
        with explained(path, note):
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Have the folder's own entries (names of new files) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_plain_file(path: Path) -> None:
    """Refuse a link that leads out of its folder, a pipe, a device or a folder.

    Raises:
        OSError: there is no such file, or it cannot be looked at.
        ValueError: it is none that a store from elsewhere may have us open.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a plain file")
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(path.parent):
        raise ValueError("a symbolic link leads out of the folder")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, printable and not too long: content from elsewhere may stand in it."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return (line if line.isprintable() else ascii(line))[:200]


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class WriterLock:
    """The exclusive right to write a folder, held from construction to :meth:`release` or the process's end.

    Raises:
        UserError: somebody holds it already (the line names who), or the folder cannot be locked.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        with explained(path, "nothing was changed"):
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            self._take(self._descriptor, path)
        except BaseException:
            os.close(self._descriptor)
            self._descriptor = None
            raise
        _held.add(self)

    @property
    def held(self) -> bool:
        """Whether this object still holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let others write; harmless when done twice."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.forget()

    def forget(self) -> None:
        """Close this process's handle without unlocking what the parent process holds through its own."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _take(descriptor: int, path: Path) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip() or "another process"
            raise UserError(
                f"label store {path.parent} is being written by {holder}: end that run or choose another output folder"
            ) from None
        except OSError as error:
            raise UserError(f"cannot lock {path} ({error.strerror}): choose a folder on another disk") from error
        with explained(path, "nothing was changed"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


_held: "weakref.WeakSet[WriterLock]" = weakref.WeakSet()


def _forget_inherited() -> None:
    # A forked child shares the parent's open file; were it to outlive the parent, it would keep the lock.
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_inherited)
