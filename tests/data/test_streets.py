"""The drawn street scenes: the same everywhere, labels exact, domains different, no class missing."""

import hashlib
import pickle
import sys
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forked
from ripu_lightning.class_map import load_class_map
from ripu_lightning.data.streets import Streets, dataset
from ripu_lightning.data.streets.drawing import Camera, Canvas, Ink, Part
from ripu_lightning.data.streets.recipes import RECIPES
from ripu_lightning.data.streets.scene import Scene
from ripu_lightning.errors import UserError

Domain = Literal["source", "target"]
DOMAINS: tuple[Domain, Domain] = ("source", "target")
CLASSES = 13


def frequencies(streets: Streets) -> np.ndarray:
    counts = [np.bincount(streets.label(i).ravel(), minlength=CLASSES) for i in range(len(streets))]
    return np.array(counts)


@pytest.fixture(scope="module")
def pair() -> dict[str, Streets]:
    return {domain: Streets(domain, "train", 100) for domain in DOMAINS}


def digest(streets: Streets, index: int) -> str:
    return hashlib.sha256(streets.image(index).tobytes() + streets.label(index).tobytes()).hexdigest()


def test_class_map_names_the_parts_in_order() -> None:
    assert load_class_map("streets").names == tuple(part.name.lower() for part in Part)
    assert len(Part) == CLASSES


@pytest.mark.parametrize("domain", DOMAINS)
def test_order_of_access_does_not_matter(domain: Domain) -> None:
    forwards, backwards = Streets(domain, "train", 5, 64, 96), Streets(domain, "train", 9, 64, 96)
    expected = [digest(forwards, i) for i in range(5)]
    for i in reversed(range(5)):
        label_first = backwards.label(i)
        assert digest(backwards, i) == expected[i]
        np.testing.assert_array_equal(label_first, forwards.label(i))


def test_fresh_process_draws_the_same() -> None:
    script = (
        "import hashlib; from ripu_lightning.data.streets import Streets\n"
        "for domain in ('source', 'target'):\n"
        "    s = Streets(domain, 'val', 3, 64, 96, seed=5)\n"
        "    print(hashlib.sha256(s.image(2).tobytes() + s.label(2).tobytes()).hexdigest())"
    )
    run = forked.run([sys.executable, "-c", script], check=True)
    assert run.stdout.split() == [digest(Streets(domain, "val", 3, 64, 96, seed=5), 2) for domain in DOMAINS]


def test_seed_domain_split_and_index_all_matter() -> None:
    samples = [
        digest(Streets(domain, split, 2, 48, 64, seed=seed), index)
        for domain in DOMAINS
        for split in ("train", "val")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(samples)) == len(samples) == 16


def test_callers_cannot_spoil_the_cache() -> None:
    streets = Streets("target", "train", 1, 48, 64)
    before = digest(streets, 0)
    streets.image(0)[:] = 0
    streets.label(0)[:] = 0
    assert digest(streets, 0) == before


def test_cache_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ripu_lightning.data.streets.dataset._CACHE_BYTES", 4 * 48 * 64 * 3)
    streets = Streets("source", "train", 5, 48, 64)
    expected = [digest(streets, i) for i in range(5)]
    assert sorted(streets._cache) == [2, 3, 4]
    assert [digest(streets, i) for i in range(5)] == expected


def test_pickles_light_and_whole() -> None:
    streets = Streets("target", "train", 3, 64, 96)
    expected = [digest(streets, i) for i in range(3)]
    data = pickle.dumps(streets)
    assert len(data) < 8_000
    assert [digest(pickle.loads(data), i) for i in range(3)] == expected


@settings(max_examples=25)
@given(
    domain=st.sampled_from(DOMAINS),
    height=st.integers(32, 150),
    width=st.integers(32, 300),
    seed=st.integers(0, 2**40),
    index=st.integers(0, 10**5),
)
def test_any_size_seed_and_index(domain: Domain, height: int, width: int, seed: int, index: int) -> None:
    streets = Streets(domain, "train", index + 1, height, width, seed)
    image, label = streets.image(index), streets.label(index)
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    assert (label.shape, label.dtype) == ((height, width), np.uint8)
    assert streets.size(index) == (height, width)
    assert label.max() < CLASSES
    assert len(np.unique(label)) >= 3
    assert image.std() > 5


def test_ids_are_stable_and_index_is_checked() -> None:
    streets = Streets("target", "train", 12, 48, 64)
    assert streets.ids[7] == "target_train_0007"
    assert len(streets) == len(set(streets.ids)) == 12
    with pytest.raises(IndexError):
        streets.image(12)


def test_every_class_occurs_and_the_rarest_is_rare(pair: dict[str, Streets]) -> None:
    for streets in (*pair.values(), Streets("target", "val", 40)):
        assert (frequencies(streets) > 0).sum(axis=0).min() >= 10
    shares = frequencies(pair["target"]).sum(axis=0) / (100 * 128 * 256)
    assert 0.001 < shares.min() < 0.005
    assert shares.max() < 0.5


def test_domains_differ_in_frequencies(pair: dict[str, Streets]) -> None:
    source, target = (frequencies(pair[domain]).mean(axis=0) for domain in DOMAINS)
    ratio = np.maximum(source / target, target / source)
    assert (ratio > 1.3).sum() >= 6


def test_domains_differ_in_style(pair: dict[str, Streets]) -> None:
    saturation, contrast = {}, {}
    for domain, streets in pair.items():
        images = np.stack([streets.image(i) for i in range(30)]).astype(float)
        saturation[domain] = (images.max(axis=-1) - images.min(axis=-1)).mean()
        contrast[domain] = images.std(axis=(1, 2, 3)).mean()
    assert saturation["target"] < 0.75 * saturation["source"]
    assert contrast["target"] < 0.9 * contrast["source"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_labels_line_up_with_the_image(domain: Domain) -> None:
    """Draw every part in a colour of its own, and read the classes back from the drawing alone."""

    class Recorder(Canvas):
        def _each(self, ink: Ink, draw: Callable[..., None]) -> None:
            if ink.part is not None:
                super()._each(ink._replace(color=(10 + ink.part,) * 3), draw)

    for index in range(5):
        scene = Scene(RECIPES[domain], (96, 160), np.random.default_rng(index))
        canvas = scene.paint(Recorder(scene.camera))
        image, label = np.array(canvas.image), canvas.label()
        np.testing.assert_array_equal(image[..., 0] - 10, label)


@settings(max_examples=60)
@given(
    points=st.lists(st.tuples(st.floats(-40, 90), st.floats(-40, 90)), min_size=3, max_size=8),
    width=st.floats(0.1, 6),
    shape=st.sampled_from(["polygon", "line", "ellipse", "ring"]),
)
def test_shapes_cover_the_same_pixels_in_all_layers(
    points: list[tuple[float, float]], width: float, shape: str
) -> None:
    canvas = Canvas(Camera(48, 64, 1.0, 0.5, 1.5, 0.0, 0.0, 0.0))
    ground = canvas.camera.ground_depth()
    ink = Ink((255, 1, 2), Part.CAR, 0.25)
    if shape == "polygon":
        canvas.polygon(points, ink)
    elif shape == "line":
        canvas.line(points, width, ink)
    elif shape == "ellipse":
        canvas.ellipse(points[0], (width, 2 * width), ink)
    else:
        canvas.ring(points[0], (4 * width, 3 * width), width, ink)
    drawn = np.array(canvas.image)[..., 0] == 255
    np.testing.assert_array_equal(canvas.label() == Part.CAR, drawn)
    np.testing.assert_array_equal(canvas.depth() != ground, drawn)


def test_projection_matches_the_pinhole_formula() -> None:
    camera = Camera(100, 200, 1.2, 0.4, 1.5, 0.5, 0.0, 0.0)
    assert camera.point(0.5, 1.5, 30.0) == pytest.approx((100.0, 40.0))
    assert camera.point(2.5, 0.0, 10.0) == pytest.approx((100 + 2 * 12, 40 + 1.5 * 12))
    assert camera.ground_depth()[58, 17] == pytest.approx(10.0, rel=1e-4)
    assert (camera.ground_depth()[:40] == 1000).all()


def test_near_things_hide_far_ones() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        scene = Scene(RECIPES["target"], (96, 160), rng)
        canvas = scene.paint(Canvas(scene.camera))
        depth, label = canvas.depth(), canvas.label()
        ground = scene.camera.ground_depth()
        upright = np.isin(label, [Part.CAR, Part.PERSON, Part.RIDER, Part.SIGN, Part.LIGHT])
        # A thing that stands on the ground is never farther than the bare ground behind it (feet: 1 pixel).
        assert (depth[upright] <= ground[upright] * 1.35 + 1).mean() > 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domain": "sauce"}, "did you mean 'source'"),
        ({"length": 0}, "Streets: length must be a whole number >= 1, got 0"),
        ({"height": 31}, "height must be a whole number >= 32, got 31"),
        ({"width": 8}, "width must be a whole number >= 32, got 8"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Streets(**{"domain": "target", "split": "train", "length": 3, **arguments})


def test_fingerprint_tells_data_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"domain": "target", "split": "val", "length": 3, "height": 64, "width": 96, "seed": 0}
    changes = [
        {},
        {"domain": "source"},
        {"split": "train"},
        {"length": 4},
        {"height": 65},
        {"width": 97},
        {"seed": 1},
        {"height": 96, "width": 64},
    ]
    found = [Streets(**{**first, **change}).fingerprint() for change in changes]
    monkeypatch.setattr(dataset, "VERSION", dataset.VERSION + 1)
    found.append(Streets(**first).fingerprint())
    assert len(set(found)) == len(found)
    monkeypatch.undo()
    assert Streets(**first).fingerprint() == found[0]
