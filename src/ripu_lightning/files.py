"""Files that appear complete or not at all, their hashes, and locks between processes on any platform."""

import hashlib
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import BaseFileLock, FileLock, Timeout

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
        note: what to tell the user in addition to the reason for a failure.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with explained(path, note):
            temporary.unlink(missing_ok=True)
            # "x" follows no link of that name, which somebody may have put into a folder from elsewhere.
            file = open(temporary, "xb")  # noqa: SIM115 - closed below, before the file takes its name
        try:
            yield file
            with explained(path, note):
                file.flush()
                os.fsync(file.fileno())
        finally:
            # close() repeats a failed flush; the first error is the one to report.
            with suppress(OSError):
                file.close()
        with explained(path, note):
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes, note: str) -> None:
    """Write a whole file by :func:`replacing`; its folder is made if missing.

    Raises:
        UserError: the file cannot be written.
    """
    with explained(path, note):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, note) as file, explained(path, note):
        file.write(content)


def sync_folder(folder: Path) -> None:
    """Make the names of new files in ``folder`` survive a power cut; Windows offers no way and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_plain_file(path: Path) -> None:
    """Refuse a link that leads out of its folder, a pipe, a device or a folder.

    Raises:
        OSError: there is no such file, or it cannot be looked at.
        ValueError: a store from elsewhere must not make us open it.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a plain file")
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(path.parent):
        raise ValueError("a symbolic link leads out of the folder")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, printable and not too long: it may quote content from elsewhere."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return (line if line.isprintable() else ascii(line))[:200]


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_lock(path: Path) -> BaseFileLock:
    """A lock between processes on the file ``path``, not taken yet; all threads of the process share it.

    ``lock.acquire(blocking=False)`` raises ``filelock.Timeout`` while another process holds it, ``lock.acquire()``
    waits, ``lock.release()`` ends it, and so do the end of the process and the end of the object. A forked child does
    not hold it. On a disk without locks, ``acquire`` raises ``OSError`` or ``NotImplementedError``.

    Raises:
        UserError: ``path`` is a symbolic link.
    """
    if path.is_symlink():
        raise UserError(f"{path}: is a symbolic link; remove it")
    return FileLock(path, thread_local=False)


class FolderLock:
    """The exclusive right to write a label store, from construction to :meth:`release` or the end of the process.

    Args:
        folder: of the store; the lock is its file ``lock``.

    Raises:
        UserError: another process holds the lock (the line names it), or the folder cannot be locked.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        self._lock, self._process = file_lock(path), os.getpid()
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            holder = "another process"
            with suppress(OSError):  # Windows lets nobody read a locked file
                holder = path.read_text(errors="replace")[:1000].strip() or holder
            raise UserError(
                f"label store {folder} is being written by {holder}: end that run or choose another output folder"
            ) from None
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"cannot lock {path} ({reason}): check its permissions, or choose a folder on another disk"
            ) from error
        with suppress(OSError):  # only a help for whoever finds the store locked
            path.write_text(f"process {self._process} on {socket.gethostname()}\n")

    @property
    def held(self) -> bool:
        """Whether this process still holds the lock; False in a forked child."""
        return os.getpid() == self._process and self._lock.is_locked

    def release(self) -> None:
        """Let others write; harmless when done twice, and in a forked child."""
        if self.held:
            self._lock.release()
