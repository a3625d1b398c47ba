"""Names for loggers: valid for the strictest of them, unique, and unchanged where they can be."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ripu_lightning.evaluation import metric_names

NAMES = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=12, unique=True)


@given(NAMES)
@example(["a b", "a_b", "a/b", "a.b", "A_B", "a_b_0"])
@example(["%", "/", "..", ".", "道路", "空", "é", "e"])
@example(["x" * 300, "x" * 301])
@example(["0", "?"])
def test_names_are_valid_and_unique(names: list[str]) -> None:
    found = metric_names(names)
    assert list(found) == names
    shown = list(found.values())
    assert len({each.casefold() for each in shown}) == len(names)  # MLflow may keep them as files
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,150}", each) for each in shown)


@given(NAMES)
def test_mlflow_and_tensorboard_take_them_unchanged(names: list[str]) -> None:
    validation = pytest.importorskip("mlflow.utils.validation")
    summary = pytest.importorskip("tensorboard.summary.v2") and pytest.importorskip("torch.utils.tensorboard.summary")
    for name in metric_names(names).values():
        validation._validate_metric_name(f"val/iou/{name}")
        assert summary.scalar(f"val/iou/{name}", 0.5).value[0].tag == f"val/iou/{name}"


def test_valid_names_stay() -> None:
    names = ["road", "traffic light", "traffic_light", "bus-stop", "x 1", "Bus", "bus"]
    assert metric_names(names) == {
        "road": "road",
        "traffic light": "traffic_light_1",
        "traffic_light": "traffic_light",
        "bus-stop": "bus-stop",
        "x 1": "x_1",
        "Bus": "Bus",
        "bus": "bus_6",
    }
