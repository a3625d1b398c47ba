"""What ``ripu_lightning`` itself offers, and the numbered examples that show it."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import ripu_lightning
from ripu_lightning.labels import LabelStore

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("0*.py"))
LAZY = """
import sys
import ripu_lightning
heavy = {"torch", "numpy", "pytorch_lightning", "hydra", "omegaconf", "albumentations", "pandas", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
from ripu_lightning import Budget
print(sorted(heavy & set(sys.modules) - {"torch", "numpy"}))
"""


def test_every_public_name_is_there_and_unknown_ones_are_not() -> None:
    for name in ripu_lightning.__all__:
        assert getattr(ripu_lightning, name).__name__ == name
        assert name in dir(ripu_lightning)
    with pytest.raises(AttributeError, match="has no attribute 'ActiveLearningLop'"):
        _ = ripu_lightning.ActiveLearningLop


def test_the_package_is_free_to_import() -> None:
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs_and_is_short(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60
    monkeypatch.setattr(sys, "argv", [script.name, str(tmp_path)] if script.stem != "05_score_only" else [script.name])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    if script.stem == "05_score_only":
        assert "round 2: label 100 squares" in printed
        return
    store = LabelStore.open(tmp_path / "labels")
    assert [entry.number for entry in store.rounds] == [1, 2]
    assert store.pixels > 0


def test_the_page_on_python_shows_the_first_example_as_it_is() -> None:
    page = (EXAMPLES.parent / "docs" / "python.md").read_text(encoding="utf-8")
    script = SCRIPTS[0].read_text(encoding="utf-8")
    assert script[script.index("import sys") :].strip() in page
