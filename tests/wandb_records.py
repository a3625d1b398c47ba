"""What a W&B run holds, read from the file that its offline mode writes.

W&B is imported by the functions that need it: it takes seconds, which not every worker of pytest-xdist needs to spend.
"""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record


def records(folder: Path) -> list[Record]:
    """The records of the one run below ``folder``, once W&B's own process has written the last of them."""
    (path,) = folder.rglob("*.wandb")
    for _ in range(100):
        found = parsed(path.read_bytes())
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end: {[record.WhichOneof('record_type') for record in found]}")


def parsed(content: bytes) -> list[Record]:
    """The complete records of LevelDB's log format: blocks of 32 KiB, here after 7 bytes that belong to the first."""
    from wandb.proto.wandb_internal_pb2 import Record

    position, parts, found = 7, b"", []
    while position + 7 <= len(content):
        left = 2**15 - position % 2**15
        if left < 7:  # no room for a header: padding
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        if position + 7 + length > len(content):
            break
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in {1, 4}:  # a complete record, or the last part of one
            found.append(Record.FromString(parts))
            parts = b""
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    """The logged rows, in order."""
    history = [record.history for record in records(folder) if record.HasField("history")]
    return [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in entry.item} for entry in history
    ]


def steps(folder: Path) -> dict[str, str]:
    """Metric by full name -> its axis."""
    metrics = [record.metric for record in records(folder) if record.HasField("metric")]
    return {metric.name: metric.step_metric for metric in metrics if metric.name}
