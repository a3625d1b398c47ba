"""The summary of a curve, the drawn confusion matrix, and what W&B records of the labels' history online."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.report.matplotlib_charts import draw
from ripu_lightning.report.round_logs import RoundLogs, confusion_chart
from ripu_lightning.training.history import RoundRecord, summary


def record(number: int, share: float, miou: float) -> RoundRecord:
    return RoundRecord(number, number, number, round(1000 * share), 0, share, miou)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=8),
    st.lists(st.integers(1, 40), min_size=8, max_size=8),
)
def test_area_is_the_mean_height_of_the_curve(mious: list[float], steps: list[int]) -> None:
    shares = np.cumsum([0, *steps])[: len(mious)] / 1000
    found = summary(
        [record(number, share, miou) for number, (share, miou) in enumerate(zip(shares, mious, strict=True))]
    )
    # The curve is linear between whole thousandths: its mean is that of the middles of all of them.
    middles = np.arange(0.0005, shares[-1], 0.001)
    assert found["area_under_curve"] == pytest.approx(np.interp(middles, shares, mious).mean())
    assert (found["miou"], found["best_miou"]) == (mious[-1], max(mious))
    assert (found["share"], found["pixels"]) == (shares[-1], round(1000 * shares[-1]))


def test_summary_of_one_point_and_of_nothing_evaluated() -> None:
    assert summary([record(0, 0, 0.25)])["area_under_curve"] == 0.25
    gap = summary([record(0, 0, 0.2), record(1, 0.1, math.nan), record(2, 0.2, 0.4)])
    assert gap["area_under_curve"] == pytest.approx(0.3)
    nothing = summary([record(0, 0, math.nan), record(1, 0.5, math.nan)])
    assert all(math.isnan(nothing[name]) for name in ("miou", "best_miou", "area_under_curve"))


def test_rows_of_the_drawn_confusion_are_shares_of_a_true_class() -> None:
    counts = torch.tensor([[60, 20, 20], [0, 1, 999], [0, 0, 0]])
    axes = draw(confusion_chart(counts, ["road", "car", "sky"])).axes[0]
    texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert texts == {
        (0, 0): "60",
        (0, 1): "20",
        (0, 2): "20",
        (1, 2): "100",
        **dict.fromkeys([(2, 0), (2, 1), (2, 2)], "–"),
    }
    drawn = axes.images[0].get_array()
    assert np.allclose(drawn[:2].sum(axis=1), 1)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["road", "car", "sky"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


class Online:
    """A W&B run with a server: notes its calls."""

    id, offline, disabled = "abc", False, False

    def __init__(self, broken: bool = False) -> None:
        self.calls, self.broken = [], broken

    def log_artifact(self, artifact, aliases):
        self.calls.append(("log", aliases[-1], artifact.metadata.get("before")))
        return SimpleNamespace(wait=lambda timeout: f"{artifact.name}:{aliases[-1]}")

    def use_artifact(self, artifact):
        if self.broken:
            raise OSError("no route to host\nand more")
        self.calls.append(("use", artifact))


@pytest.fixture
def stores(tmp_path):
    """The store after each of two rounds, as far as it is looked at."""
    entries = []
    for number, before in ((1, None), (2, "a" * 64)):
        path = tmp_path / f"round_00{number}.parquet"
        path.write_bytes(bytes([number]) * 10)
        entries.append(SimpleNamespace(number=number, sha256=chr(96 + number) * 64, parent=before, file=path.name))
    (tmp_path / "manifest.json").write_text("{}")
    return [SimpleNamespace(folder=tmp_path, rounds=tuple(entries[:count]), pixels=9 * count) for count in (1, 2)]


def test_online_a_version_is_made_from_the_one_before(stores, tmp_path):
    logs, run = RoundLogs(SimpleNamespace(history=[]), tmp_path / "last.ckpt", {}), Online()
    for store in stores:
        logs._log_labels(run, store)
    assert run.calls == [("log", "round-1", None), ("use", "labels-abc:round-1"), ("log", "round-2", "a" * 64)]


def test_a_resumed_run_makes_a_version_from_the_one_before(stores, tmp_path):
    logs, run = RoundLogs(SimpleNamespace(history=[]), tmp_path / "last.ckpt", {}), Online()
    logs._log_labels(run, stores[1])
    assert run.calls == [("use", "labels-abc:round-1"), ("log", "round-2", "a" * 64)]


@pytest.mark.parametrize(
    ("mious", "step", "logged"),
    [([0.2, 0.3], 1, True), ([0.3, 0.2], 1, False), ([0.2, 0.3], 2, False), ([math.nan], 0, False), ([], 0, False)],
)
@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_fit_end"])
def test_the_best_checkpoint_is_logged_by_a_resumed_run(tmp_path, monkeypatch, hook, mious, step, logged):
    """It knows the records and the step from the checkpoint alone; one of a later step is no stage's."""
    run = Online()
    monkeypatch.setattr("ripu_lightning.report.round_logs._recording", lambda loggers: [run])
    (tmp_path / "last.ckpt").write_bytes(b"weights")
    history = [record(number, 0.1 * number, miou) for number, miou in enumerate(mious)]
    logs = RoundLogs(SimpleNamespace(history=history), tmp_path / "last.ckpt", {})
    getattr(logs, hook)(SimpleNamespace(is_global_zero=True, global_step=step, loggers=[]), None)
    assert run.calls == ([("log", "round-1", None)] if logged else [])


def test_a_server_that_went_away_costs_no_label(stores, tmp_path):
    logs, run = RoundLogs(SimpleNamespace(history=[]), tmp_path / "last.ckpt", {}), Online(broken=True)
    logs._log_labels(run, stores[0])
    with pytest.warns(UserWarning, match=r"without a link to the previous version \(no route to host\)"):
        logs._log_labels(run, stores[1])
    assert [call[1] for call in run.calls] == ["round-1", "round-2"]
