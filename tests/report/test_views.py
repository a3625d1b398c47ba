"""What is recorded of the pictured images: read back from the files, held against the network that is still there."""

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
from pytorch_lightning import Callback

import tiny
from ripu_lightning.acquisition import Budget, ScoreInputs, Superpixel, get_strategy
from ripu_lightning.acquisition import functional as F
from ripu_lightning.annotation import GroundTruth
from ripu_lightning.report.pictures import RoundPictures, draw_view
from ripu_lightning.report.views import grey, view_of
from ripu_lightning.training import ActiveLearningLoop, Stages
from ripu_lightning.training.passes import Passes

NAME = "target!_2"


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


class Keep(Callback):
    """Keeps the network as it is after each stage: comes before the pictures."""

    def __init__(self) -> None:
        self.networks: list[torch.nn.Module] = []

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.networks.append(copy.deepcopy(pl_module).eval())


def run(folder: Path, name: str = "ripu", rounds: int = 2, count: int = 1, **options: object):
    strategy, data = get_strategy(name, **options), tiny.datamodule()
    budget = Budget(ratio=0.3, per="image" if strategy.geometry.name == "square" else "pool", rounds=rounds)
    stages = Stages(steps=8, first_round=3, interval=2, rounds=rounds)
    active, kept = ActiveLearningLoop(strategy, budget, GroundTruth(data.target), stages, folder / "labels"), Keep()
    trainer = tiny.trainer(folder, active, kept, RoundPictures(folder / "pictures", count))
    trainer.fit(tiny.module(), datamodule=data)
    return data, active, kept, trainer


def logits_of(network, data, index: int) -> torch.Tensor:
    image = data.pool_dataloader().dataset[index].image
    with torch.no_grad():
        logits = network(image).logits
    return torch.nn.functional.interpolate(logits, data.target.size(index), mode="bilinear", align_corners=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    return folder / "pictures", *run(folder)


def test_files_hold_what_the_network_said(recorded) -> None:
    pictures, data, _, kept, _ = recorded
    assert np.array_equal(np.array(Image.open(pictures / NAME / "image.png")), data.target.image(2))
    assert np.array_equal(np.array(Image.open(pictures / NAME / "truth.png")), data.target.label(2))
    for stage, network in enumerate(kept.networks):
        logits, own = logits_of(network, data, 2), pictures / f"round_{stage}" / NAME
        assert np.array_equal(np.array(Image.open(own / "prediction.png")), logits.argmax(1)[0].numpy())
        if stage == 2:  # buys nothing
            assert [path.name for path in own.iterdir()] == ["prediction.png"]
            continue
        expected = {"score": F.ripu(logits), "impurity": F.region_impurity(logits)}
        expected["uncertainty"] = F.region_uncertainty(logits)
        for kind, values in expected.items():
            path = own / f"{kind}.png"
            assert values.std() > 0.01
            assert np.abs(read(path) - values[0].numpy()).max() <= step(path)


def test_what_was_bought_lies_where_the_score_is_high(recorded) -> None:
    pictures, _, active, _, _ = recorded
    answers, score = active.store.answers(NAME, 1), read(pictures / "round_0" / NAME / "score.png")
    rows, columns = answers.centres.T
    assert score[rows, columns] == pytest.approx(answers.scores, abs=step(pictures / "round_0" / NAME / "score.png"))


# One of each kind of need: samples, features, statistics of the source too, superpixels with both.
@pytest.mark.parametrize("name", ["bald", "halo", "core_set", "d2ada"])
def test_every_kind_of_strategy_tells_the_score_that_it_bought_by(tmp_path: Path, name: str) -> None:
    data, active, _, _ = run(tmp_path, name, 1, 5, **({"geometry": Superpixel(20)} if name == "d2ada" else {}))
    bought = 0
    for image_id in active.store.touched:
        path, answers = tmp_path / "pictures" / "round_0" / image_id / "score.png", active.store.answers(image_id, 1)
        rows, columns = answers.centres.T
        assert read(path).shape == data.target.size(2)
        assert read(path)[rows, columns] == pytest.approx(answers.scores, abs=step(path))
        bought += len(rows)
    assert bought


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


def test_a_run_that_goes_on_from_before_its_round_learns_nothing_anew(tmp_path: Path) -> None:
    """Its statistics were those of another process: no score is told that could be another one."""
    run(tmp_path, "core_set", 1)
    first = tmp_path / "pictures" / "round_0" / NAME
    assert (first / "score.png").is_file()
    for path in first.iterdir():
        path.unlink()
    run(tmp_path, "core_set", 1)
    assert sorted(path.name for path in first.iterdir()) == ["impurity.png", "prediction.png", "uncertainty.png"]


def test_large_radius_and_no_maps(recorded) -> None:
    _, data, active, kept, trainer = recorded
    passes = Passes(trainer, kept.networks[2], active.strategy, 3, 0)
    view = view_of(passes, data, 2, score=False, radius=99)
    expected = F.region_impurity(logits_of(kept.networks[2], data, 2), radius=11)  # of an image of 24 x 32
    assert np.array_equal(view.maps["impurity"], expected[0].numpy())
    assert view_of(passes, data, 2, score=False).maps == {}


def test_rounds_of_later_stages_do_not_show(recorded) -> None:
    """A run that goes on from an old checkpoint finds rounds in the store that it has not come to."""
    _, data, active, kept, trainer = recorded
    view = view_of(Passes(trainer, kept.networks[0], active.strategy, 1, 0), data, 2, score=False)
    answers = active.store.answers(NAME, 1)
    assert (view.asked > 0).sum() == answers.boxes[:, 2:].prod(axis=1).sum() == (view.asked == 1).sum()
    assert ((view.labels != 255) <= (view.asked == 1)).all()
    assert draw_view(view, tiny.CLASSES).texts[3].get_text().endswith("in 1 round")


def test_titles(recorded) -> None:
    _, data, active, kept, trainer = recorded
    view = view_of(Passes(trainer, kept.networks[1], active.strategy, 2, 0), data, 2, score=True, radius=1)
    nothing = replace(view, asked=np.zeros_like(view.asked), truth=None)
    titles = [text.get_text() for text in draw_view(nothing, tiny.CLASSES).texts]
    assert titles[:3] == ["image", "prediction after 1 round", "nothing bought"]
    low, high = view.maps["score"].min(), view.maps["score"].max()
    assert titles[3] == f"score: {low + 0.0:.2g} to {high:.2g}"
    assert [title.split(":")[0] for title in titles[4:]] == ["impurity", "uncertainty"]


def test_inputs_are_those_of_the_acquisition(recorded) -> None:
    """The strategy sees the id, the round and the seed that it saw when it was asked: noise is the same noise."""
    _, data, active, kept, trainer = recorded
    seen: list[ScoreInputs] = []
    strategy = copy.copy(active.strategy)
    strategy.score = lambda inputs: seen.append(inputs) or inputs.logits[:, 0]
    view = view_of(Passes(trainer, kept.networks[0], strategy, 1, 7), data, 2, score=True)
    assert (list(seen[0].image_ids), seen[0].round, seen[0].seed) == ([NAME], 1, 7)
    assert np.array_equal(view.maps["score"], seen[0].logits[0, 0].numpy())
