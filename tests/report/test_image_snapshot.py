"""What is recorded of the pictured images: read back from the files, compared with the network of that stage."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from tiny_run import CLASSES, SIZE, TinyRun

from ripu_lightning.acquisition import Budget, ScoreInputs, Superpixel, get_strategy
from ripu_lightning.acquisition import functional as F
from ripu_lightning.labels import LabelStore
from ripu_lightning.report.image_snapshot import ImageSnapshot, grey, take_snapshot
from ripu_lightning.report.round_pictures import RoundPictures, draw_snapshot
from ripu_lightning.training.acquire import select_queries
from ripu_lightning.training.pool_inference import PoolInference
from ripu_lightning.training.ranks import Ranks

NAME, IMAGE, INDEX = "target__1", "target/1", 1


def read(path: Path) -> np.ndarray:
    """A map's numbers, by the contract: ``minimum + maximum * grey / 255``."""
    with Image.open(path) as picture:
        assert picture.mode == "L"
        pixels = np.array(picture).astype(np.float64)
        return float(picture.text.get("minimum", 0)) + float(picture.text["maximum"]) * pixels / 255


def step(path: Path) -> float:
    """Half a grey level, and what float32 rounds."""
    with Image.open(path) as picture:
        return float(picture.text["maximum"]) / 255 / 2 + 1e-6


def logits_of(run: TinyRun, stage: int) -> torch.Tensor:
    image = run.data.pool_dataloader().dataset[INDEX].image
    with torch.no_grad():
        logits = run.observer.networks[stage](image).logits
    return torch.nn.functional.interpolate(logits, SIZE, mode="bilinear", align_corners=True)


def snapshot_of(run: TinyRun, stage: int, strategy: object = None, **options: object) -> ImageSnapshot:
    inference = PoolInference(run.trainer, run.observer.networks[stage], strategy or run.loop.strategy, stage + 1, 7)
    return take_snapshot(inference, run.data, run.store, INDEX, **{"score": False, **options})


def test_files_hold_what_the_network_said(tiny_run: TinyRun) -> None:
    pictures, target = tiny_run.pictures, tiny_run.data.target
    assert np.array_equal(np.array(Image.open(pictures / NAME / "image.png")), target.image(INDEX))
    assert np.array_equal(np.array(Image.open(pictures / NAME / "truth.png")), target.label(INDEX))
    for stage in range(3):
        logits, own = logits_of(tiny_run, stage), pictures / f"round_{stage}" / NAME
        assert np.array_equal(np.array(Image.open(own / "prediction.png")), logits.argmax(1)[0].numpy())
        if stage == 2:  # no round follows
            assert [path.name for path in own.iterdir()] == ["prediction.png"]
            continue
        expected = {"score": F.ripu(logits), "impurity": F.region_impurity(logits)}
        expected["uncertainty"] = F.region_uncertainty(logits)
        for kind, values in expected.items():
            path = own / f"{kind}.png"
            assert values.std() > 0.01
            assert np.abs(read(path) - values[0].numpy()).max() <= step(path)


def test_queries_are_where_the_recorded_score_is_theirs(tiny_run: TinyRun) -> None:
    answers, path = tiny_run.store.answers(IMAGE, 1), tiny_run.pictures / "round_0" / NAME / "score.png"
    rows, columns = answers.centres.T
    assert read(path)[rows, columns] == pytest.approx(answers.scores, abs=step(path))


# One of each kind of need: samples, features, statistics of the source too, superpixels with both.
@pytest.mark.parametrize("name", ["bald", "halo", "core_set", "d2ada"])
def test_every_kind_of_strategy_reports_the_score_that_it_selected_by(
    tiny_run: TinyRun, tmp_path: Path, name: str
) -> None:
    strategy = get_strategy(name, **({"region_type": Superpixel(20)} if name == "d2ada" else {}))
    module, target = tiny_run.observer.networks[0], tiny_run.data.target
    inference = PoolInference(tiny_run.trainer, module, strategy, 1, 0)
    budget = Budget(ratio=0.3, per="image" if strategy.region_type.name == "square" else "pool")
    images = dict.fromkeys(target.ids, SIZE)
    with LabelStore.create_or_open(tmp_path, classes=CLASSES.names, images=images) as store:
        queries = select_queries(inference, tiny_run.data, store, budget, Ranks(tiny_run.trainer))
        assert queries
        for query in queries:
            snapshot = take_snapshot(inference, tiny_run.data, store, query.index, score=True)
            rows, columns = query.centres.T
            assert snapshot.maps["score"][rows, columns] == pytest.approx(query.scores, abs=1e-5)


@given(
    arrays(np.float32, (3, 5), elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.inf, -np.inf, np.nan])),
    st.none() | st.just(0.0),
)
def test_grey_maps_can_be_read_back(values: np.ndarray, least: float | None) -> None:
    picture, low, most = grey(values, least)
    assert picture.dtype == np.uint8
    assert np.isfinite([low, most]).all()
    back, finite = low + most * picture / 255.0, np.isfinite(values)
    shown = values.astype(np.float64) if least is None else np.maximum(values.astype(np.float64), least)
    assert np.abs(back[finite] - shown[finite]).max(initial=0) <= most / 255 / 2 * (1 + 1e-9) + 1e-9
    assert (picture[values == -np.inf] == 0).all()
    assert (picture[values == np.inf] == picture.max()).all()


def test_a_resumed_run_records_no_score_that_may_be_another_one(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strategy that learns from the data is fitted by the process that selects: no other knows its score."""
    before = RoundPictures(tmp_path, count=1)
    monkeypatch.setattr(tiny_run.loop, "strategy", get_strategy("core_set"))
    monkeypatch.setattr(tiny_run.loop, "scored", 0)
    monkeypatch.setattr(tiny_run.trainer, "loggers", [])  # W&B's is finished
    before.on_sanity_check_end(tiny_run.trainer, tiny_run.trainer.lightning_module)
    (folder,) = (tmp_path / "round_0").glob("*/")
    assert sorted(path.name for path in folder.iterdir()) == ["impurity.png", "prediction.png", "uncertainty.png"]


def test_large_radius_and_no_maps(tiny_run: TinyRun) -> None:
    expected = F.region_impurity(logits_of(tiny_run, 2), radius=15)  # of an image of 32 x 48
    assert np.array_equal(snapshot_of(tiny_run, 2, radius=99).maps["impurity"], expected[0].numpy())
    assert snapshot_of(tiny_run, 2).maps == {}


def test_rounds_of_later_stages_are_not_shown(tiny_run: TinyRun) -> None:
    """A run resumed from an old checkpoint finds rounds in the store that it has not reached."""
    snapshot, answers = snapshot_of(tiny_run, 0), tiny_run.store.answers(IMAGE, 1)
    first = snapshot.query_round == 1
    assert (snapshot.query_round > 0).sum() == answers.boxes[:, 2:].prod(axis=1).sum() == first.sum()
    assert ((snapshot.labels != 255) <= first).all()
    assert draw_snapshot(snapshot, CLASSES).texts[3].get_text().endswith("in 1 round")


def test_titles(tiny_run: TinyRun) -> None:
    snapshot = snapshot_of(tiny_run, 1, score=True, radius=1)
    nothing = replace(snapshot, query_round=np.zeros_like(snapshot.query_round), truth=None)
    titles = [text.get_text() for text in draw_snapshot(nothing, CLASSES).texts]
    assert titles[:3] == ["image", "prediction after 1 round", "nothing queried"]
    low, high = snapshot.maps["score"].min(), snapshot.maps["score"].max()
    assert titles[3] == f"score: {low + 0.0:.2g} to {high:.2g}"
    assert [title.split(":")[0] for title in titles[4:]] == ["impurity", "uncertainty"]


def test_inputs_are_those_of_the_acquisition(tiny_run: TinyRun) -> None:
    """The strategy sees the id, the round and the seed that it saw when it selected: noise is the same noise."""
    seen: list[ScoreInputs] = []
    strategy = copy.copy(tiny_run.loop.strategy)
    strategy.score = lambda inputs: seen.append(inputs) or inputs.logits[:, 0]
    snapshot = snapshot_of(tiny_run, 0, strategy, score=True)
    assert (list(seen[0].image_ids), seen[0].round, seen[0].seed) == ([IMAGE], 1, 7)
    assert np.array_equal(snapshot.maps["score"], seen[0].logits[0, 0].numpy())
