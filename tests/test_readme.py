"""The Python examples of README and docs run as they stand."""

import math
import re
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from pytorch_lightning import Trainer

import tiny

ROOT = Path(__file__).parents[1]


def run_example(page: str, title: str, **names: Any) -> dict[str, Any]:
    """Run the only Python block under a title; returns its names."""
    section = (ROOT / page).read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    [block] = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    exec(compile(block, page, "exec"), names)
    return names


def test_every_example_is_run() -> None:
    for page, blocks in (("README.md", 2), ("docs/strategies.md", 1)):
        assert (ROOT / page).read_text(encoding="utf-8").count("```python\n") == blocks


def test_trainer_script_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sketch whose data and module are the reader's: all of it but the training itself."""
    trainer = create_autospec(Trainer)
    monkeypatch.setattr("pytorch_lightning.Trainer", trainer)
    monkeypatch.chdir(tmp_path)
    data = tiny.datamodule()
    names = run_example("README.md", "Use it in your own Trainer script", target=data.target, module=0, data=data)
    assert trainer.call_args.kwargs["callbacks"] == [names["loop"]]
    trainer.return_value.fit.assert_called_once_with(0, datamodule=data)


def test_acquisition_example_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_example("README.md", "Use only the acquisition functions")
    assert "tensor(" in capsys.readouterr().out
    assert int(names["queries"].region.sum()) == 256 * 9 - _cut_off(names["queries"].centres)


def test_example_of_the_strategies_page(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_example("docs/strategies.md", "Select in your own project")
    assert "tensor(" in capsys.readouterr().out
    assert sum(len(picked.positions) for picked in names["picks"].values()) == math.ceil(3 * 120 * 160 * 0.01 / 4 / 9)


def test_strategies_page_names_every_strategy_and_option_of_the_configs() -> None:
    page = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    for group in ("strategy", "region_type", "selection_rule", "budget"):
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"| `{path.stem}` |" in page or path.stem == "registered", f"{group}/{path.stem}"


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
