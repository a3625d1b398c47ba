"""Files of ``torch.save`` from elsewhere: nothing in them is executed, and no small file fills the memory."""

import io
import zipfile
from pathlib import Path
from pickletools import genops
from typing import IO, Any

import torch

PICKLED = 8 * 2**20
"""Bytes that names and numbers beside the tensors never reach."""
_LEGACY_PARTS = 5  # magic number, protocol, system, content, keys of the storages; raw storages follow
_GROWING = {"bytearray", "encode"}
"""Of all that torch's own reader calls, what makes much of a small file; only bytes need it."""


def load_plain(path: Path) -> Any:
    """Tensors, numbers, text and containers of them, on the CPU.

    Raises:
        Exception: of any kind; the file is damaged, hostile, or holds something else.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            _look_into_archive(file)
        else:
            file.seek(0)
            for _ in range(_LEGACY_PARTS):
                _look_into_pickle(file)
    return torch.load(path, map_location="cpu", weights_only=True)


def _look_into_archive(file: IO[bytes]) -> None:
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        # A comment could hide a second directory, which torch's reader might take for the true one.
        if archive.comment or any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("torch.save compresses nothing")
        if sum(member.file_size for member in members) > size:
            raise ValueError("holds more than its size")
        if archive.testzip() is not None:  # torch's reader compares no check sums
            raise ValueError("its check sums differ")
        for member in members:
            if member.filename.lower().endswith(".pkl"):
                _look_into_pickle(io.BytesIO(archive.read(member)[: PICKLED + 1]))


def _look_into_pickle(file: IO[bytes]) -> None:
    start = file.tell()
    for operation, argument, _ in genops(file):
        if file.tell() - start > PICKLED:
            raise ValueError("too much beside the tensors")
        if operation.name == "GLOBAL" and str(argument).split(" ")[-1] in _GROWING:
            raise ValueError("holds bytes")
