"""Region types against loops over single pixels: units, walks, positions, members and outlines."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import Outline, Pixel, RegionType, Square, Superpixel, WholeImage
from ripu_lightning.errors import UserError

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 10_000)
REDUCES = {"mean": lambda values: sum(values) / len(values), "max": max, "sum": sum}


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tied_scores(seed: int, shape: tuple[int, int], levels: int = 4) -> Tensor:
    """Few levels, so many ties; no zeros."""
    return torch.randint(1, levels + 1, shape, generator=drawn(seed)).float() / 4


def some(seed: int, shape: tuple[int, int], share: float) -> Tensor:
    return torch.rand(shape, generator=drawn(seed + 1)) < share


def scattered(seed: int, shape: tuple[int, int], number: int) -> Tensor:
    """Regions of any shape, in several pieces, with holes, some of a single pixel; numbered without gaps."""
    regions = torch.randint(0, number, shape, generator=drawn(seed + 2))
    ids: Tensor = torch.unique(regions, return_inverse=True)[1]
    return ids


def pixels_of(regions: Tensor) -> dict[int, list[tuple[int, int]]]:
    """The pixels of each region, row by row."""
    found: dict[int, list[tuple[int, int]]] = {number: [] for number in range(int(regions.max()) + 1)}
    for row, line in enumerate(regions.tolist()):
        for column, number in enumerate(line):
            found[number].append((row, column))
    return found


def nearest_to_centroid(pixels: list[tuple[int, int]]) -> tuple[int, int]:
    """In exact numbers; the first of equals."""
    centroid = [Fraction(sum(pixel[axis] for pixel in pixels), len(pixels)) for axis in (0, 1)]
    return min(pixels, key=lambda pixel: ((pixel[0] - centroid[0]) ** 2 + (pixel[1] - centroid[1]) ** 2, pixel))


def square_around(row: int, column: int, radius: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """The pixels of a clipped square, row by row."""
    return [
        (y, x) for y in range(shape[0]) for x in range(shape[1]) if abs(y - row) <= radius and abs(x - column) <= radius
    ]


def painted(outline: Outline) -> list[set[tuple[int, int]]]:
    """The pixels that each pick of an outline asks for."""
    start, found = 0, []
    inside = None if outline.inside is None else outline.inside.tolist()
    for top, left, height, width in outline.boxes.tolist():
        box = [(top + y, left + x) for y in range(height) for x in range(width)]
        queried = [True] * len(box) if inside is None else inside[start : start + len(box)]
        found.append({pixel for pixel, wanted in zip(box, queried, strict=True) if wanted})
        start += len(box)
    assert inside is None or start == len(inside)
    return found


def grouped(members: tuple[Tensor, Tensor], count: int, width: int) -> list[set[tuple[int, int]]]:
    """The members of each row, each pixel once."""
    found: list[set[tuple[int, int]]] = [set() for _ in range(count)]
    for pixel, row in zip(*(each.tolist() for each in members), strict=True):
        assert divmod(pixel, width) not in found[row]
        found[row].add(divmod(pixel, width))
    return found


def flat(pixels: list[tuple[int, int]], width: int) -> Tensor:
    return torch.tensor([row * width + column for row, column in pixels], dtype=torch.int64)


def best(values: list[float], free: list[bool]) -> list[int]:
    """Numbers of what is free, best first, equals in their order."""
    return sorted((number for number, is_free in enumerate(free) if is_free), key=lambda number: -values[number])


@settings(max_examples=60)
@given(
    seed=SEEDS,
    shape=SHAPES,
    radius=st.integers(0, 3),
    more=st.integers(0, 3),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    limit=st.integers(0, 20),
    floor=st.sampled_from([float("-inf"), 0.25, 0.6, 1.0]),
)
def test_walk_of_squares_blocks_around_each_pick(
    seed: int, shape: tuple[int, int], radius: int, more: int, share: float, limit: int, floor: float
) -> None:
    region_type = Square(radius, exclusion=2 * radius + more)
    scores, available = tied_scores(seed, shape), some(seed, shape, share)
    units = region_type.units(scores, available)
    assert units.values.tolist() == scores.flatten().tolist()
    assert units.free.tolist() == available.flatten().tolist()
    picks: list[tuple[int, int]] = []
    for number in best(units.values.tolist(), units.free.tolist()):
        row, column = divmod(number, shape[1])
        near = any(max(abs(row - y), abs(column - x)) <= region_type.exclusion for y, x in picks)
        if len(picks) < limit and not near and scores[row, column] > floor:
            picks.append((row, column))
    numbers = region_type.greedy_order(units, shape, limit, floor)
    assert numbers.dtype == torch.int64
    assert numbers.tolist() == flat(picks, shape[1]).tolist()
    assert region_type.positions(numbers).tolist() == numbers.tolist()


@settings(max_examples=60)
@given(seed=SEEDS, shape=SHAPES, radius=st.integers(0, 3), count=st.integers(0, 5))
def test_members_and_outline_of_squares_are_clipped(seed: int, shape: tuple[int, int], radius: int, count: int) -> None:
    positions = torch.randint(0, shape[0] * shape[1], (count,), generator=drawn(seed))
    expected = [square_around(*divmod(position, shape[1]), radius, shape) for position in positions.tolist()]
    pixels, rows = Square(radius).members(positions, shape)
    assert pixels.tolist() == [pixel for each in expected for pixel in flat(each, shape[1]).tolist()]
    assert rows.tolist() == [row for row, each in enumerate(expected) for _ in each]
    outline = Square(radius).outline(positions, shape)
    assert outline.inside is None
    assert (outline.boxes.dtype, outline.boxes.shape) == (torch.int64, (count, 4))
    assert painted(outline) == [set(each) for each in expected]


@pytest.mark.parametrize("reduce", ["centre", "mean", "max", "sum"])
@pytest.mark.parametrize("radius", [0, 1, 2])
def test_reduction_of_squares(reduce: str, radius: int) -> None:
    shape = (6, 7)
    scores = torch.randn(shape, generator=drawn(3), dtype=torch.float64)
    found = Square(radius, reduce=reduce).units(scores, some(3, shape, 0.5)).values
    for number, value in enumerate(found.tolist()):
        row, column = divmod(number, shape[1])
        values = [float(scores[y, x]) for y, x in square_around(row, column, radius, shape)]
        expected = float(scores[row, column]) if reduce == "centre" else REDUCES[reduce](values)
        assert value == pytest.approx(expected, abs=1e-9)


def test_a_pixel_is_a_square_of_radius_0() -> None:
    pixel = Pixel(exclusion=4)
    assert (pixel.name, pixel.radius, pixel.exclusion, pixel.area(30, 40)) == ("pixel", 0, 4, 1)
    assert Pixel().exclusion == 0
    assert pixel.outline(torch.tensor([13]), (5, 6)).boxes.tolist() == [[2, 1, 1, 1]]


def test_squares_cost_their_whole_area_and_just_do_not_overlap() -> None:
    assert [Square(radius).area(20, 30) for radius in (0, 1, 4)] == [1, 9, 81]
    assert [Square(radius).exclusion for radius in (0, 1, 4)] == [0, 2, 8]
    scores = torch.rand((12, 15), generator=drawn(5))
    region_type = Square(1)
    numbers = region_type.greedy_order(region_type.units(scores, scores > -1), (12, 15), 100)
    pixels, _ = region_type.members(numbers, (12, 15))
    assert len(pixels) == len(pixels.unique())


@settings(max_examples=60)
@given(
    seed=SEEDS,
    shape=SHAPES,
    number=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.8, 1.0]),
    limit=st.integers(0, 12),
    floor=st.sampled_from([float("-inf"), 0.5, 0.75]),
    reduce=st.sampled_from(sorted(REDUCES)),
)
def test_superpixels(
    seed: int, shape: tuple[int, int], number: int, share: float, limit: int, floor: float, reduce: str
) -> None:
    region_type, regions = Superpixel(reduce=reduce), scattered(seed, shape, number)
    scores, available = tied_scores(seed, shape), some(seed, shape, share)
    units, pixels = region_type.units(scores, available, regions), pixels_of(regions)
    values = [REDUCES[reduce]([float(scores[pixel]) for pixel in pixels[name]]) for name in pixels]
    free = [all(bool(available[pixel]) for pixel in pixels[name]) for name in pixels]
    assert units.values.tolist() == pytest.approx(values)
    assert units.free.tolist() == free
    expected = [name for name in best(units.values.tolist(), free) if units.values[name] > floor][:limit]
    numbers = region_type.greedy_order(units, shape, limit, floor)
    assert numbers.tolist() == expected
    positions = region_type.positions(numbers, regions)
    assert positions.tolist() == flat([nearest_to_centroid(pixels[name]) for name in expected], shape[1]).tolist()
    queried = [set(pixels[name]) for name in expected]
    assert grouped(region_type.members(positions, shape, regions), len(expected), shape[1]) == queried
    outline = region_type.outline(positions, shape, regions)
    assert outline.boxes.shape == (len(expected), 4)
    assert outline.inside is not None
    assert outline.inside.dtype == torch.bool
    assert painted(outline) == queried


def test_the_first_of_pixels_equally_near_to_the_centroid_is_the_centre() -> None:
    regions = torch.tensor([[0, 2, 0, 1], [0, 3, 2, 3], [0, 0, 0, 1]])
    # The centroid of 0 is (8/7, 5/7): pixels (1, 0) and (2, 1) are both sqrt(26)/7 away.
    assert Superpixel().positions(torch.tensor([0]), regions).tolist() == [4]


def test_a_box_around_a_superpixel_has_no_margin() -> None:
    regions = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 2]])
    region_type = Superpixel()
    positions = region_type.positions(torch.tensor([1, 2]), regions)
    assert positions.tolist() == [9, 11]
    outline = region_type.outline(positions, (3, 4), regions)
    assert outline.boxes.tolist() == [[1, 1, 2, 2], [2, 3, 1, 1]]
    assert outline.inside is not None
    assert outline.inside.tolist() == [True, False, True, True, True]


@pytest.mark.parametrize("reduce", sorted(REDUCES))
def test_whole_images(reduce: str) -> None:
    shape = (5, 6)
    scores = torch.randn(shape, generator=drawn(1), dtype=torch.float64)
    region_type, whole = WholeImage(reduce), torch.ones(shape, dtype=torch.bool)
    units = region_type.units(scores, whole)
    assert units.values.tolist() == pytest.approx([REDUCES[reduce](scores.flatten().tolist())])
    assert units.free.tolist() == [True]
    whole[4, 5] = False
    assert region_type.units(scores, whole).free.tolist() == [False]
    numbers = region_type.greedy_order(units, shape, 3)
    assert numbers.tolist() == [0]
    assert region_type.greedy_order(units, shape, 3, floor=float(units.values[0])).tolist() == []
    assert region_type.greedy_order(units, shape, 0).tolist() == []
    positions = region_type.positions(numbers)
    assert positions.tolist() == [0]
    everything = {(row, column) for row in range(5) for column in range(6)}
    assert grouped(region_type.members(positions, shape), 1, 6) == [everything]
    assert painted(region_type.outline(positions, shape)) == [everything]
    assert region_type.area(*shape) is None


@pytest.mark.parametrize("region_type", [Square(1), Pixel(3), Superpixel(), WholeImage()])
def test_nothing_picked_has_no_members(region_type: RegionType) -> None:
    regions, none = scattered(0, (4, 5), 6), torch.empty(0, dtype=torch.int64)
    members = region_type.members(none, (4, 5), regions)
    assert [len(each) for each in members] == [0, 0]
    assert painted(region_type.outline(none, (4, 5), regions)) == []


@pytest.mark.parametrize("region_type", [Square(1), Pixel(3), WholeImage()])
def test_only_superpixels_are_segmented(region_type: RegionType) -> None:
    assert not region_type.segments
    with pytest.raises(TypeError, match="does not segment"):
        region_type.segment(torch.ones(4, 5, 3, dtype=torch.uint8), "image")


def test_superpixels_are_computed_or_read(tmp_path: Path) -> None:
    image = (torch.arange(24 * 30 * 3) // 10 % 256).reshape(24, 30, 3).to(torch.uint8)
    assert Superpixel(segments=6).segments
    few, many = (Superpixel(segments=number, compactness=100.0).segment(image, "a") for number in (6, 40))
    assert few.shape == (24, 30)
    assert few.max() < many.max()
    assert not torch.equal(many, Superpixel(segments=40, compactness=0.01).segment(image, "a"))
    regions = scattered(4, (24, 30), 9)
    torch.save(regions, tmp_path / "a.pt")
    torch.save(regions[1:], tmp_path / "b.pt")
    region_type = Superpixel(folder=tmp_path)
    assert torch.equal(region_type.segment(image, "a"), regions)
    with pytest.raises(UserError, match=r"b\.pt: expected a map of \(24, 30\), got \(23, 30\)"):
        region_type.segment(image, "b")
    with pytest.raises(UserError, match=r"Superpixel: folder has no label map .*c\.png"):
        region_type.segment(image, "c")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Square(-1), r"Square: radius .*got -1"),
        (lambda: Square(2, exclusion=3), r"Square: exclusion must be >= 4, .* got 3"),
        (lambda: Pixel(-1), "Pixel: exclusion"),
        (lambda: Square(1, reduce="median"), "Square: reduce .*centre.*'median'"),
        (lambda: Superpixel(reduce="centre"), "Superpixel: reduce"),
        (lambda: WholeImage("centre"), "WholeImage: reduce"),
        (lambda: Superpixel(segments=0), "segments must be .* >= 1"),
        (lambda: Superpixel(compactness=0.0), "compactness must be a number > 0"),
        (lambda: Superpixel(compactness=float("nan")), "compactness must be a number > 0"),
        (lambda: Superpixel(folder="/nowhere/at/all"), r"Superpixel: folder .*/nowhere/at/all"),
        (lambda: Square(3).check(6, 9), r"Square: radius 3: a square of 7 .* 6x9; use at most 2"),
        (lambda: Square(3).check(9, 6), "at most 2"),
        (lambda: Superpixel(segments=37).check(6, 6), r"Superpixel: segments .* 6x6, got 37"),
    ],
)
def test_refused_options(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("region_type", "side"), [(Square(3), 7), (Pixel(100), 1), (Superpixel(segments=36), 6), (WholeImage(), 1)]
)
def test_what_just_fits_is_not_refused(region_type: RegionType, side: int) -> None:
    assert region_type.check(side, side) is None


@pytest.mark.parametrize(
    "regions", [None, torch.ones(4, 5), torch.ones(1, 4, 5, dtype=torch.int64), -torch.ones(4, 5, dtype=torch.int64)]
)
def test_wrong_regions_are_refused(regions: Tensor | None) -> None:
    scores, positions = torch.rand((4, 5), generator=drawn(0)), torch.tensor([3])
    region_type = Superpixel()
    for use in (
        lambda: region_type.units(scores, scores > -1, regions),
        lambda: region_type.positions(positions, regions),
        lambda: region_type.members(positions, (4, 5), regions),
        lambda: region_type.outline(positions, (4, 5), regions),
    ):
        with pytest.raises(ValueError, match="expected regions"):
            use()


@pytest.mark.parametrize("region_type", [Square(1), Square(1, reduce="max"), Superpixel(), WholeImage()])
def test_scores_that_are_not_finite_are_refused(region_type: RegionType) -> None:
    scores = torch.rand((4, 5), generator=drawn(0))
    scores[2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"finite|NaN"):
        region_type.greedy_order(
            region_type.units(scores, scores.new_ones((4, 5)).bool(), scattered(0, (4, 5), 6)), (4, 5), 3, -9.0
        )


def test_numbers_that_no_pixel_has_are_never_picked() -> None:
    regions = torch.tensor([[0, 0, 5], [0, 5, 5]])
    region_type = Superpixel(segments=2)
    units = region_type.units(torch.rand(regions.shape), torch.ones(regions.shape, dtype=torch.bool), regions)
    assert units.free.nonzero().flatten().tolist() == [0, 5]
    assert sorted(region_type.greedy_order(units, (2, 3), limit=9).tolist()) == [0, 5]
