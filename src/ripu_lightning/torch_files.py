"""Files of ``torch.save`` from other people: nothing in them is executed, and damage is noticed."""

import zipfile
from pathlib import Path
from typing import Any

import torch


def load_plain(path: Path) -> Any:
    """Tensors, numbers, text and containers of them, on the CPU.

    Raises:
        Exception: of any kind; the file is damaged, or holds something else.
    """
    with path.open("rb") as file:
        # torch's own reader compares no check sums; the format of old releases has none.
        if file.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                if archive.testzip() is not None:
                    raise ValueError("its check sums differ")
    return torch.load(path, map_location="cpu", weights_only=True)
