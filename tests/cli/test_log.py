"""The log of a default run: each line is known, whatever the libraries would like to say; real warnings stay."""

import re
import warnings
from pathlib import Path

from test_train_command import call

from ripu_lightning.cli.library_notes import NOTES

TINY = [
    "experiment=demo", "output=run", "budget.rounds=2", "schedule.steps=6", "schedule.first_round=2",
    "schedule.interval=2", "schedule.horizon=8", "data.source.length=4", "data.target.length=5",
    "data.target_eval.length=3", "data.target.height=64", "data.target.width=128", "network.width=8", "pictures=1",
]  # fmt: skip
BAR = r"{}:? *\d+%\|.*\| \d+/\d+ \[.*\]"
KNOWN = [
    r"(Training|Validation|Sanity Checking): \|.*\| 0/\? \[.*\]",
    BAR.format(r"Epoch \d"),
    BAR.format(r"Validation DataLoader 0"),
    BAR.format(r"round \d: (ripu_diverse|ledger)"),
    BAR.format(r"counting pixels"),
    r"[┏┡└┃│━─┓┩┘].*",
    r"run folder: .*/run",
]
"""Every line of a run: progress bars, tables, and where its files are."""


def lines(text: str) -> list[str]:
    """What a terminal shows one after the other, without colours and movements of the cursor."""
    plain = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text)
    return [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def test_every_line_of_a_default_run_is_known(tmp_path: Path) -> None:
    done = call("ripu-train", *TINY, cwd=tmp_path, anew=True, MPLCONFIGDIR=str(tmp_path / "matplotlib"))
    assert done.returncode == 0, done.stderr[-3000:]
    shown = [*lines(done.stdout), *lines(done.stderr)]
    assert [line for line in shown if not any(re.fullmatch(known, line) for known in KNOWN)] == []
    assert not any("v_num" in line for line in shown)
    for known in KNOWN[1:]:
        assert any(re.fullmatch(known, line) for line in shown), known


def test_notes_are_of_libraries_and_not_ours() -> None:
    source = Path(__file__).parents[2] / "src"
    ours = "\n".join(path.read_text(encoding="utf-8") for path in source.rglob("*.py") if path.stem != "library_notes")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for note in NOTES:
            warnings.filterwarnings("ignore", note)
        warnings.warn("budget: asks for 1% of the pixels", stacklevel=1)
        warnings.warn("The number of training batches (2) is smaller than the logging interval x", stacklevel=1)
    assert [str(each.message) for each in caught] == ["budget: asks for 1% of the pixels"]
    assert not any(re.search(note, ours) for note in NOTES)
