"""The README's Python example runs as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]


def test_python_example(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, Any] = {}
    exec(compile(blocks[0], "README.md", "exec"), names)
    assert "tensor(" in capsys.readouterr().out
    assert int(names["picked"].region.sum()) == 256 * 9 - _cut_off(names["picked"].centres)


def _cut_off(centres: torch.Tensor) -> int:
    """Pixels that squares at the image's border lack."""
    missing = 0
    for row, column in centres.tolist():
        rows = min(row + 1, 511) - max(row - 1, 0) + 1
        columns = min(column + 1, 1023) - max(column - 1, 0) + 1
        missing += 9 - rows * columns
    return missing


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
